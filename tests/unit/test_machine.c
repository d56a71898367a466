/* What a machine has left, by files of the kernel that the test writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "machine.h"
#include "numbers.h"
#include "temp_name.h"

static const uint64_t mib = 1024 * 1024;

/* A machine with 1000 MiB, 800 of them free, of which files say more. */
struct machine {
    char root[200];
};

static void put(const struct machine *m, const char *name, const char *text)
{
    char path[512];
    FILE *file = NULL;

    snprintf(path, sizeof path, "%s/%s", m->root, name);
    for (char *c = path + strlen(m->root) + 1; *c != '\0'; c++)
        if (*c == '/') {
            *c = '\0';
            (void)mkdir(path, 0700);
            *c = '/';
        }
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct machine make(void)
{
    struct machine m;

    temp_name(m.root, sizeof m.root, "machine");
    assert_non_null(mkdtemp(m.root));
    put(&m, "proc/meminfo",
        "MemTotal:  1024000 kB\nMemFree: 1 kB\nMemAvailable: 819200 kB\n");
    return m;
}

static void check(const struct machine *m, uint64_t available, uint64_t total)
{
    char command[256];
    uint64_t found[2] = {0, 0};

    assert_true(ge_machine_memory(m->root, &found[0], &found[1]));
    snprintf(command, sizeof command, "rm -r '%s'", m->root);
    assert_int_equal(system(command), 0); /* NOLINT: a path of our own */
    assert_int_equal(found[0], available * mib);
    assert_int_equal(found[1], total * mib);
}

static void no_group_is_no_limit(void **state)
{
    const struct machine m = make();

    (void)state;
    check(&m, 800, 1000);
}

static void a_word_is_no_limit(void **state)
{
    const struct machine m = make();

    (void)state;
    put(&m, "proc/self/cgroup", "0::/\n");
    put(&m, "sys/fs/cgroup/memory.max", "max\n");
    put(&m, "sys/fs/cgroup/memory.current", "1048576000\n");
    check(&m, 800, 1000);
}

static void a_containers_limit_counts(void **state)
{
    const struct machine m = make();

    (void)state;
    put(&m, "proc/self/cgroup", "0::/\n");
    put(&m, "sys/fs/cgroup/memory.max", "314572800\n");
    put(&m, "sys/fs/cgroup/memory.current", "209715200\n");
    check(&m, 100, 300);
}

static void file_cache_is_available(void **state)
{
    const struct machine m = make();

    (void)state;
    put(&m, "proc/self/cgroup", "0::/\n");
    put(&m, "sys/fs/cgroup/memory.max", "314572800\n");
    put(&m, "sys/fs/cgroup/memory.current", "314572800\n");
    put(&m, "sys/fs/cgroup/memory.stat",
        "anon 1\nactive_file 52428800\ninactive_file 104857600\n");
    check(&m, 150, 300);
}

static void the_tightest_group_around_us_counts(void **state)
{
    const struct machine m = make();

    (void)state;
    put(&m, "proc/self/cgroup", "12:cpu:/x\n0::/slurm/job_1/step_0\n");
    put(&m, "sys/fs/cgroup/slurm/memory.max", "524288000\n");
    put(&m, "sys/fs/cgroup/slurm/memory.current", "513802240\n");
    put(&m, "sys/fs/cgroup/slurm/job_1/memory.max", "209715200\n");
    put(&m, "sys/fs/cgroup/slurm/job_1/memory.current", "104857600\n");
    put(&m, "sys/fs/cgroup/slurm/job_1/step_0/memory.max", "max\n");
    put(&m, "sys/fs/cgroup/slurm/job_2/memory.max", "1048576\n");
    check(&m, 10, 200);
}

static void a_group_over_its_limit_has_nothing_left(void **state)
{
    const struct machine m = make();

    (void)state;
    put(&m, "proc/self/cgroup", "0::/not/to/be/seen\n");
    put(&m, "sys/fs/cgroup/memory.max", "104857600\n");
    put(&m, "sys/fs/cgroup/memory.current", "104861696\n");
    check(&m, 0, 100);
}

static void a_kernel_that_does_not_tell(void **state)
{
    uint64_t available = 0, total = 0;

    (void)state;
    assert_false(ge_machine_memory("/nowhere", &available, &total));
    assert_int_equal(available, UINT64_MAX);
    assert_int_equal(total, UINT64_MAX);
}

static void this_machine_has_memory(void **state)
{
    uint64_t available = 0, total = 0;

    (void)state;
    assert_true(ge_machine_memory("", &available, &total));
    assert_in_range(available, mib, total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_group_is_no_limit),
        cmocka_unit_test(a_word_is_no_limit),
        cmocka_unit_test(a_containers_limit_counts),
        cmocka_unit_test(file_cache_is_available),
        cmocka_unit_test(the_tightest_group_around_us_counts),
        cmocka_unit_test(a_group_over_its_limit_has_nothing_left),
        cmocka_unit_test(a_kernel_that_does_not_tell),
        cmocka_unit_test(this_machine_has_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
