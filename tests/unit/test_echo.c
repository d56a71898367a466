/* The echo from terms whose averages are known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "echo.h"
#include "numbers.h"

enum { MOST = 9 };

/* Replicas that scatter by `noise` around given averages. */
static void scatter(struct dice *dice, struct ge_echo_terms *terms,
                    size_t replicas, double z, double a, double b, double noise)
{
    for (size_t i = 0; i < replicas; i++)
        terms[i] = (struct ge_echo_terms){
            .overlap = z * (1.0 + noise * dice_normal(dice)),
            .held_out = a * (1.0 + noise * dice_normal(dice)),
            .cross = b * (1.0 + noise * dice_normal(dice)),
            .s_replica = 1.3 * a * (1.0 + noise * dice_normal(dice)),
        };
}

static struct ge_echo_terms average(const struct ge_echo_terms *terms,
                                    size_t replicas)
{
    const double count = (double)replicas;
    struct ge_echo_terms sum = {0};

    for (size_t i = 0; i < replicas; i++) {
        sum.overlap += terms[i].overlap / count;
        sum.held_out += terms[i].held_out / count;
        sum.cross += terms[i].cross / count;
        sum.s_replica += terms[i].s_replica / count;
    }
    return sum;
}

/* Averages over replicas without b, which is taken out of the others' means,
 * too: the definition (theory 3), one replica after the other. */
static struct ge_echo_terms average_without(const struct ge_echo_terms *terms,
                                            size_t replicas, size_t b)
{
    const struct ge_echo_terms mean = average(terms, replicas);
    const double k = (double)replicas;
    struct ge_echo_terms others[MOST];
    size_t count = 0;

    for (size_t a = 0; a < replicas; a++) {
        double rest = 0.0;

        if (a == b)
            continue;
        for (size_t c = 0; c < replicas; c++)
            rest += c == a ? 0.0 : terms[c].cross / (k - 1.0);
        const double p = terms[a].held_out +
                         mean.held_out / mean.cross * (terms[b].cross - rest);

        others[count] = terms[a];
        if (replicas > 2) /* of two, nothing would be left to hold against */
            others[count].held_out =
                ((k - 1.0) * terms[a].held_out - p) / (k - 2.0);
        count++;
    }
    return average(others, count);
}

/* A planted mode: echo 0.8, echo of the others' mean 0.9, s = 5. Then
 * z = 0.72, A = 5 * 0.8, B = 5 * 0.9. */
static void a_planted_mode_is_read_back(void **state)
{
    struct dice dice = dice_start(21);
    struct ge_echo_terms terms[4];
    struct ge_echo out;

    (void)state;
    scatter(&dice, terms, 4, 0.72, 4.0, 4.5, 0.0);
    ge_echo_combine(terms, 4, 1, 0, &out);
    assert_close(out.echo, 0.8, 1e-14);
    assert_close(out.echo_loo, 0.9, 1e-14);
    assert_close(out.s_est, 5.0, 1e-14);
    assert_close(out.s_replica, 5.2, 1e-14);
    assert_close(out.gain, 4.0 / 5.2, 1e-14);
    assert_near(out.echo_se, 0.0, 1e-7); /* all replicas say the same */
    assert_near(out.gain_se, 0.0, 1e-7);
}

static void the_identities_of_the_averages_hold(void **state)
{
    struct dice dice = dice_start(22);
    struct ge_echo_terms terms[MOST];
    struct ge_echo out;

    (void)state;
    for (size_t k = 2; k <= MOST; k++) {
        scatter(&dice, terms, k, 0.4, 2.0, 2.2, 0.1);
        const struct ge_echo_terms mean = average(terms, k);
        ge_echo_combine(terms, k, 1, 0, &out);
        assert_close(out.echo * out.echo_loo, mean.overlap, 1e-13);
        assert_close(out.s_est * out.echo, mean.held_out, 1e-13);
        assert_close(out.s_est * out.echo_loo, mean.cross, 1e-13);
        assert_close(out.gain * out.s_replica, mean.held_out, 1e-13);
        assert_close(out.s_replica, mean.s_replica, 1e-13);
    }
}

static double jackknife(const double *without, size_t count)
{
    double mean = 0.0, spread = 0.0;

    for (size_t i = 0; i < count; i++)
        mean += without[i] / (double)count;
    for (size_t i = 0; i < count; i++)
        spread += (without[i] - mean) * (without[i] - mean);
    return sqrt((double)(count - 1) / (double)count * spread);
}

static void errors_equal_the_jackknife_by_brute_force(void **state)
{
    struct dice dice = dice_start(23);
    struct ge_echo_terms terms[MOST];
    double echo[MOST], gain[MOST];
    struct ge_echo out;

    (void)state;
    for (size_t k = 3; k <= MOST; k++) {
        scatter(&dice, terms, k, 0.4, 2.0, 2.2, 0.2);
        for (size_t i = 0; i < k; i++) {
            const struct ge_echo_terms mean = average_without(terms, k, i);

            echo[i] = sqrt(mean.held_out * mean.overlap / mean.cross);
            gain[i] = mean.held_out / mean.s_replica;
        }
        ge_echo_combine(terms, k, 1, 0, &out);
        assert_close(out.echo_se, jackknife(echo, k), 1e-11);
        assert_close(out.gain_se, jackknife(gain, k), 1e-11);
        assert_true(out.echo_se > 0.0);
    }
}

static void leaving_one_out_leaves_it_out_of_the_others_means(void **state)
{
    enum { STRIDE = 2 };
    struct dice dice = dice_start(26);
    struct ge_echo_terms terms[MOST * STRIDE], dense[MOST];
    struct ge_echo got;

    (void)state;
    for (size_t k = 2; k <= MOST; k++) {
        scatter(&dice, terms, k * STRIDE, 0.4, 2.0, 2.2, 0.2);
        for (size_t a = 0; a < k; a++)
            dense[a] = terms[a * STRIDE];
        for (size_t out = 0; out < k; out++) {
            const struct ge_echo_terms m = average_without(dense, k, out);

            ge_echo_without(terms, k, STRIDE, 0, out, &got);
            assert_close(got.echo, sqrt(m.held_out * m.overlap / m.cross),
                         1e-13);
            assert_close(got.echo_loo, sqrt(m.cross * m.overlap / m.held_out),
                         1e-13);
            assert_close(got.s_est, sqrt(m.held_out * m.cross / m.overlap),
                         1e-13);
            assert_close(got.gain, m.held_out / m.s_replica, 1e-13);
            assert_close(got.s_replica, m.s_replica, 1e-13);
            assert_nan(got.echo_se);
            assert_nan(got.gain_se);
        }
    }
}

/* Replicas' gradients that are numbers, g_b, of modes that are all alike: then
 * L_a is the mean of the other numbers, and leaving b out of the numbers is
 * what leaving it out of the terms must come to. */
static void numbers_for_gradients_are_left_out_exactly(void **state)
{
    struct dice dice = dice_start(27);

    (void)state;
    for (size_t k = 3; k <= MOST; k++) {
        struct ge_echo_terms terms[MOST];
        struct ge_echo got;
        double g[MOST], all = 0.0;

        for (size_t a = 0; a < k; a++) {
            g[a] = 3.0 + 0.3 * dice_normal(&dice);
            all += g[a];
        }
        for (size_t a = 0; a < k; a++)
            terms[a] = (struct ge_echo_terms){.overlap = 0.49,
                                              .held_out = (all - g[a]) /
                                                          ((double)k - 1.0),
                                              .cross = g[a],
                                              .s_replica = 4.0};
        for (size_t b = 0; b < k; b++) {
            /* Without b, the means of g and of the others' means agree. */
            const double mean = (all - g[b]) / ((double)k - 1.0);

            ge_echo_without(terms, k, 1, 0, b, &got);
            assert_close(got.echo, 0.7, 1e-13);
            assert_close(got.echo_loo, 0.7, 1e-13);
            assert_close(got.s_est, mean / 0.7, 1e-13);
            assert_close(got.gain, mean / 4.0, 1e-13);
        }
        /* The noise that A and B share cancels in the echo, not in the gain:
         * its error is that of a mean. */
        ge_echo_combine(terms, k, 1, 0, &got);
        double square = 0.0;

        for (size_t a = 0; a < k; a++)
            square += pow(g[a] - all / (double)k, 2.0);
        assert_near(got.echo_se, 0.0, 1e-12);
        assert_close(got.gain_se,
                     sqrt(square / ((double)k * ((double)k - 1.0))) / 4.0,
                     1e-11);
    }
}

static void fewer_than_two_replicas_know_nothing(void **state)
{
    const struct ge_echo_terms term = {0.5, 1.0, 1.0, 2.0, {0}};

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        struct ge_echo out = {0};

        ge_echo_combine(&term, k, 1, 0, &out);
        assert_nan(out.s_replica);
        assert_nan(out.s_est);
        assert_nan(out.echo);
        assert_nan(out.echo_se);
        assert_nan(out.echo_loo);
        assert_nan(out.gain);
        assert_nan(out.gain_se);
    }
}

static void two_replicas_have_an_echo_but_no_error(void **state)
{
    const struct ge_echo_terms terms[] = {{0.5, 2.0, 1.0, 4.0, {0}},
                                          {0.7, 4.0, 5.0, 8.0, {0}}};
    struct ge_echo out;

    (void)state;
    ge_echo_combine(terms, 2, 1, 0, &out);
    assert_close(out.echo, sqrt(0.6), 1e-15);
    assert_close(out.gain, 0.5, 1e-15);
    assert_nan(out.echo_se);
    assert_nan(out.gain_se);
}

static void where_an_average_is_not_positive_there_is_no_echo(void **state)
{
    static const struct ge_echo_terms means[] = {
        {-0.1, 2.0, 2.0, 3.0, {0}},  {0.0, 2.0, 2.0, 3.0, {0}},
        {0.5, -2.0, 2.0, 3.0, {0}},  {0.5, 0.0, 2.0, 3.0, {0}},
        {0.5, 2.0, -2.0, 3.0, {0}},  {0.5, 2.0, 0.0, 3.0, {0}},
        {0.5, -2.0, -2.0, 3.0, {0}}, {0.0, 0.0, 0.0, 3.0, {0}}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(means); i++) {
        struct ge_echo_terms terms[4];
        struct ge_echo out;

        for (size_t a = 0; a < 4; a++)
            terms[a] = means[i];
        ge_echo_combine(terms, 4, 1, 0, &out);
        assert_true(out.echo == 0.0);
        assert_true(out.echo_loo == 0.0);
        assert_nan(out.s_est);
        assert_nan(out.echo_se);
        /* The gain needs none of them and keeps its sign. */
        assert_close(out.gain, means[i].held_out / 3.0, 1e-14);
        assert_close(out.s_replica, 3.0, 1e-14);
    }
}

/* Positive on average, but not without the first replica. */
static void an_error_that_cannot_be_known_is_not_a_number(void **state)
{
    const struct ge_echo_terms terms[] = {{0.9, 2.0, 2.0, 3.0, {0}},
                                          {-0.1, 2.0, 2.0, 3.0, {0}},
                                          {-0.1, 2.0, 2.0, 3.0, {0}}};
    struct ge_echo out;

    (void)state;
    ge_echo_combine(terms, 3, 1, 0, &out);
    assert_close(out.echo, sqrt(0.7 / 3.0), 1e-14);
    assert_nan(out.echo_se);
    assert_near(out.gain_se, 0.0, 1e-7);
}

static void echoes_are_capped_at_one_and_gains_are_not(void **state)
{
    const struct ge_echo_terms terms[] = {{1.0, 4.0, 2.0, 1.0, {0}},
                                          {1.0, 4.0, 2.0, 1.0, {0}},
                                          {1.0, 4.0, 2.0, 1.0, {0}}};
    const struct ge_echo_terms swapped[] = {{1.0, 2.0, 4.0, 1.0, {0}},
                                            {1.0, 2.0, 4.0, 1.0, {0}}};
    struct ge_echo out;

    (void)state;
    ge_echo_combine(terms, 3, 1, 0, &out);
    assert_true(out.echo == 1.0);
    assert_close(out.echo_loo, sqrt(0.5), 1e-15);
    assert_close(out.gain, 4.0, 1e-15);
    ge_echo_combine(swapped, 2, 1, 0, &out);
    assert_close(out.echo, sqrt(0.5), 1e-15);
    assert_true(out.echo_loo == 1.0);
}

static void what_is_missing_stays_missing(void **state)
{
    (void)state;
    for (size_t field = 0; field < 3; field++) {
        struct ge_echo_terms terms[] = {{0.5, 2.0, 2.0, 3.0, {0}},
                                        {0.5, 2.0, 2.0, 3.0, {0}},
                                        {0.5, 2.0, 2.0, 3.0, {0}}};
        struct ge_echo out;

        if (field == 0)
            terms[1].overlap = (double)NAN;
        else if (field == 1)
            terms[1].held_out = (double)NAN;
        else
            terms[1].cross = (double)NAN;
        ge_echo_combine(terms, 3, 1, 0, &out);
        assert_nan(out.echo);
        assert_nan(out.echo_loo);
        assert_nan(out.s_est);
        assert_nan(out.echo_se);
    }
}

static void a_stride_skips_what_is_between(void **state)
{
    enum { STRIDE = 3 };
    struct dice dice = dice_start(24);
    struct ge_echo_terms dense[MOST], spaced[MOST * STRIDE];
    struct ge_echo one, other;

    (void)state;
    scatter(&dice, dense, MOST, 0.4, 2.0, 2.2, 0.1);
    scatter(&dice, spaced, MOST * STRIDE, -1.0, 1e9, 7.0, 1.0);
    for (size_t i = 0; i < MOST; i++)
        spaced[i * STRIDE] = dense[i];
    ge_echo_combine(dense, MOST, 1, 0, &one);
    ge_echo_combine(spaced, MOST, STRIDE, 0, &other);
    assert_memory_equal(&one, &other, sizeof one);
}

static void the_unit_of_the_gradient_does_not_matter(void **state)
{
    static const double factors[] = {1e-30, 7.0, 1e30};
    struct dice dice = dice_start(25);
    struct ge_echo_terms terms[5], scaled[5];
    struct ge_echo one, other;

    (void)state;
    scatter(&dice, terms, 5, 0.4, 2.0, 2.2, 0.1);
    ge_echo_combine(terms, 5, 1, 0, &one);
    for (size_t f = 0; f < COUNT_OF(factors); f++) {
        for (size_t i = 0; i < 5; i++)
            scaled[i] = (struct ge_echo_terms){terms[i].overlap,
                                               terms[i].held_out * factors[f],
                                               terms[i].cross * factors[f],
                                               terms[i].s_replica * factors[f],
                                               {0}};
        ge_echo_combine(scaled, 5, 1, 0, &other);
        assert_close(other.echo, one.echo, 1e-13);
        assert_close(other.echo_se, one.echo_se, 1e-11);
        assert_close(other.gain, one.gain, 1e-13);
        assert_close(other.s_est, one.s_est * factors[f], 1e-13);
    }
}

/* ---- modes that mix ---- */

/* Two modes of echo `rho` and singular values s, at a distance of `distance`:
 * turned into each other by angle[a] in replica a, and independently of that in
 * the mean of the others, whose noise is 1/(K-1) in variance. */
static void turn_pair(struct ge_echo_terms *terms, size_t replicas,
                      size_t modes, size_t first, size_t distance, double rho,
                      const double *s, const double *angle)
{
    const double k = (double)replicas;

    for (size_t a = 0; a < replicas; a++) {
        const double sign = a % 4 < 2 ? 1.0 : -1.0;
        const double own = angle[a];
        const double held = sign * fabs(own) / sqrt(k - 1.0);
        struct ge_echo_terms *one = &terms[a * modes + first];
        struct ge_echo_terms *two = one + distance;
        const double c2 = pow(cos(own - held), 2.0), s2 = 1.0 - c2;
        const double co = pow(cos(own), 2.0), ch = pow(cos(held), 2.0);

        one->overlap = two->overlap = rho * 0.95 * c2;
        one->near[GE_ECHO_NEAR + distance - 1] = rho * 0.95 * s2;
        two->near[GE_ECHO_NEAR - distance] = rho * 0.95 * s2;
        one->held_out = rho * (s[0] * co + s[1] * (1.0 - co));
        two->held_out = rho * (s[1] * co + s[0] * (1.0 - co));
        one->cross = 0.95 * (s[0] * ch + s[1] * (1.0 - ch));
        two->cross = 0.95 * (s[1] * ch + s[0] * (1.0 - ch));
        one->s_replica = two->s_replica = 2.0 * s[0];
    }
}

/* Turned at random by about 0.2: cos^2 of it is what is left of an echo. */
static void modes_that_mix_have_their_own_echo(void **state)
{
    enum { MODES = 5 };
    static const double s[] = {5.0, 4.8};

    (void)state;
    for (size_t distance = 1; distance <= GE_ECHO_NEAR; distance++) {
        struct ge_echo_terms terms[4 * MODES] = {0};
        static const double angle[] = {0.2, -0.2, 0.2, -0.2};
        const double left = pow(cos(0.2), 2.0);
        struct ge_echo one, two;

        turn_pair(terms, 4, MODES, 1, distance, 0.8, s, angle);
        ge_echo_combine(terms, 4, MODES, 1, &one);
        ge_echo_combine(terms, 4, MODES, 1 + distance, &two);
        /* To second order in the angle. */
        assert_near(one.echo, 0.8 * left, 0.003);
        assert_near(two.echo, 0.8 * left, 0.003);
        assert_near(one.s_est, s[0], 0.02);
        assert_near(two.s_est, s[1], 0.02);
        assert_near(one.echo_cluster, 0.8, 0.003);
        assert_near(two.echo_cluster, 0.8, 0.003);
        assert_true(one.gain > 0.8 * left * 0.5 + 0.01); /* all of A */
    }
}

/* A direction of noise, which has no singular value of its own, may take a
 * part of the mode: the mode of the mean, not the replica's, is the less. */
static void a_direction_of_noise_takes_nothing_off(void **state)
{
    enum { MODES = 2 };
    struct ge_echo_terms terms[6 * MODES] = {0};
    struct ge_echo out;
    const double lost = 0.3; /* of u', v' to the direction of noise */

    (void)state;
    for (size_t a = 0; a < 6; a++) {
        struct ge_echo_terms *mode = &terms[a * MODES], *noise = mode + 1;

        mode->overlap = 0.7 * 0.9 * (1.0 - lost);
        mode->near[GE_ECHO_NEAR] = 0.7 * 0.9 * lost;
        noise->near[GE_ECHO_NEAR - 1] = 0.7 * 0.9 * lost;
        mode->held_out = 0.7 * 5.0;
        mode->cross = 0.9 * (1.0 - lost) * 5.0;
        noise->cross = 0.9 * lost * 5.0;
        mode->s_replica = 6.0;
    }
    ge_echo_combine(terms, 6, MODES, 0, &out);
    assert_close(out.echo, 0.7, 1e-12);
    assert_close(out.s_est, 5.0, 1e-12);
    assert_close(out.echo_cluster, 0.7, 1e-12);
}

static void what_shows_one_way_only_is_no_turn(void **state)
{
    enum { MODES = 3 };
    struct dice dice = dice_start(28);
    struct ge_echo_terms apart[4 * MODES], leaning[4 * MODES];
    struct ge_echo one, other;

    (void)state;
    scatter(&dice, apart, 4 * MODES, 0.5, 2.0, 2.2, 0.1);
    memcpy(leaning, apart, sizeof apart);
    for (size_t a = 0; a < 4; a++) {
        leaning[a * MODES + 1].near[GE_ECHO_NEAR] = 0.2; /* 1 to 2 */
        leaning[a * MODES + 2].near[GE_ECHO_NEAR - 1] = -0.01;
        leaning[a * MODES].near[GE_ECHO_NEAR] = 0.2; /* 0 to 1 */
    }
    for (size_t k = 0; k < MODES; k++) {
        ge_echo_combine(apart, 4, MODES, k, &one);
        ge_echo_combine(leaning, 4, MODES, k, &other);
        assert_memory_equal(&one, &other, sizeof one);
    }
}

/* Both sides are turned by noise of one size: what is taken off cancels. */
static void of_two_replicas_the_echo_is_left_as_it_is(void **state)
{
    static const double s[] = {5.0, 5.0}, angle[] = {0.3, -0.3};
    struct ge_echo_terms terms[2 * 2] = {0};
    struct ge_echo out;

    (void)state;
    turn_pair(terms, 2, 2, 0, 1, 0.8, s, angle);
    ge_echo_combine(terms, 2, 2, 0, &out);
    assert_close(out.echo,
                 sqrt(terms[0].held_out / terms[0].cross *
                      (terms[0].overlap + terms[2].overlap) / 2.0),
                 1e-12);
    assert_true(out.echo_cluster > out.echo + 0.05);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_planted_mode_is_read_back),
        cmocka_unit_test(the_identities_of_the_averages_hold),
        cmocka_unit_test(errors_equal_the_jackknife_by_brute_force),
        cmocka_unit_test(leaving_one_out_leaves_it_out_of_the_others_means),
        cmocka_unit_test(numbers_for_gradients_are_left_out_exactly),
        cmocka_unit_test(fewer_than_two_replicas_know_nothing),
        cmocka_unit_test(two_replicas_have_an_echo_but_no_error),
        cmocka_unit_test(where_an_average_is_not_positive_there_is_no_echo),
        cmocka_unit_test(an_error_that_cannot_be_known_is_not_a_number),
        cmocka_unit_test(echoes_are_capped_at_one_and_gains_are_not),
        cmocka_unit_test(what_is_missing_stays_missing),
        cmocka_unit_test(a_stride_skips_what_is_between),
        cmocka_unit_test(the_unit_of_the_gradient_does_not_matter),
        cmocka_unit_test(modes_that_mix_have_their_own_echo),
        cmocka_unit_test(a_direction_of_noise_takes_nothing_off),
        cmocka_unit_test(what_shows_one_way_only_is_no_turn),
        cmocka_unit_test(of_two_replicas_the_echo_is_left_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
