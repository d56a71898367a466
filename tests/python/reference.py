"""An independent reading of the formulas, in plain NumPy and double precision.

Written from the mathematics (docs/theory.md), not from the C code: what both
say of the same gradients must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def noise(replicas: Array, batch_size: float = np.nan) -> dict[str, float]:
    """Noise figures of one layer; replicas is [K, rows, cols]."""
    k, rows, cols = replicas.shape
    mean = replicas.mean(axis=0)
    deviation = ((replicas - mean) ** 2).sum(axis=(1, 2))
    sigma2 = deviation.sum() / ((k - 1) * rows * cols)
    left_out = [
        np.delete(replicas, a, axis=0).var(axis=0, ddof=1).mean() for a in range(k)
    ] if k > 2 else [np.nan]
    trace = sigma2 * rows * cols
    sqnorm = (mean**2).sum() - trace / k
    without = [
        unbiased(np.delete(replicas, a, axis=0)) for a in range(k)
    ] if k > 2 else [(np.nan, np.nan)]
    edge = np.sqrt(sigma2) * (np.sqrt(rows) + np.sqrt(cols))
    return {
        "sigma2": sigma2,
        "sigma2_se": jackknife(np.array(left_out)),
        "noise_trace_se": jackknife(rows * cols * np.array(left_out)),
        "grad_sqnorm": sqnorm,
        "grad_sqnorm_se": jackknife(np.array([g for _, g in without])),
        "noise_trace": trace,
        "noise_scale": batch_size * trace / sqnorm,
        "noise_scale_se": jackknife(
            np.array([batch_size * n / g for n, g in without])
        ),
        "edge": edge,
        "tau2_edge": edge**2,
        "tau2_asym": sigma2 * (rows + cols) / 2,
    }


def unbiased(replicas: Array) -> tuple[float, float]:
    """Trace of one replica's noise, squared norm of the true gradient; from
    products of different replicas, which share no noise."""
    k = len(replicas)
    products = np.einsum("aij,bij->ab", replicas, replicas)
    square = float((products.sum() - np.trace(products)) / (k * (k - 1)))
    return float(np.trace(products) / k) - square, square


def model_noise_scale_se(layers: Sequence[dict[int, Array]], batch_size: float) -> float:
    """Jackknife of the noise scale of several layers; each layer has its
    replicas by number, and need not have all of them."""
    numbers = sorted(set().union(*layers))
    scales = []
    for out in numbers:
        sums = np.sum([
            unbiased(np.array([g for number, g in layer.items() if number != out]))
            for layer in layers
        ], axis=0)
        scales.append(batch_size * sums[0] / sums[1])
    return jackknife(np.array(scales))


def smooth(values: Array, half_life: float) -> Array:
    """Average of all values so far, weights halved with every half-life; NaN
    values have no weight."""
    out = np.full(len(values), np.nan)
    for i in range(len(values)):
        seen = values[: i + 1]
        known = np.flatnonzero(~np.isnan(seen))
        if len(known):
            weight = 0.5 ** (-np.arange(len(known), dtype=float) / half_life)
            out[i] = (weight * seen[known]).sum() / weight.sum()
    return out


def jackknife(left_out: Array) -> float:
    """Standard error from the values with one replica left out each."""
    k = len(left_out)
    return float(np.sqrt((k - 1) / k * ((left_out - left_out.mean()) ** 2).sum()))


def assign(overlap: Array) -> tuple[NDArray[np.int_], Array]:
    """Columns one-to-one to rows, the largest |overlap| first; and the margin
    by which each row was given its column, or that of a row before it if that
    was smaller: below the precision of the overlaps all is left to chance."""
    free = np.abs(overlap)
    order = np.empty(len(free), dtype=int)
    margin = np.empty(len(free))
    least = np.inf
    for _ in range(len(order)):
        ref, found = np.unravel_index(np.nanargmax(free), free.shape)
        best = free[ref, found]
        rivals = np.concatenate([free[ref, :], free[:, found]])
        rivals = np.sort(rivals[~np.isnan(rivals)])[:-2]  # without itself, twice
        least = min(least, best - (rivals[-1] if len(rivals) else 0.0))
        order[ref], margin[ref] = found, least
        free[ref, :] = np.nan
        free[:, found] = np.nan
    return order, margin


def match(
    u: Array, s: Array, v: Array, u_ref: Array, v_ref: Array
) -> tuple[Array, Array, Array]:
    """Columns of u, v one-to-one in the order of the reference's columns."""
    overlap = (u_ref.T @ u) * (v_ref.T @ v)
    order, _ = assign(overlap)
    sign = np.sign(overlap[np.arange(len(order)), order])
    return u[:, order] * sign, s[order], v[:, order]


def match_margin(
    u: Array, _: Array, v: Array, u_ref: Array, v_ref: Array
) -> Array:
    """Margin of each decision that match() takes."""
    return assign((u_ref.T @ u) * (v_ref.T @ v))[1]


def modes(a: Array, count: int) -> tuple[Array, Array, Array]:
    """Leading singular triples: vectors in columns."""
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    return u[:, :count], s[:count], vt[:count].T


def held_out_without(a: Array, b: Array, out: int) -> Array:
    """A of the other replicas as it were had there never been replica `out`,
    which is in the means that they are held against; a, b [replica, mode]."""
    k = len(a)
    rest = []
    for i in range(k):
        if i == out:
            continue
        others = np.delete(b, i, axis=0).mean(axis=0)
        p = a[i] + a.mean(axis=0) / b.mean(axis=0) * (b[out] - others)
        rest.append(((k - 1) * a[i] - p) / (k - 2) if k > 2 else a[i])
    return np.array(rest)


NEAR = 2  # modes before and behind that count as neighbours


def mixed(z: Array, b: Array) -> Array:
    """Part of each mode that is its neighbours'; z [mode, mode] are overlaps of
    the replicas' own modes with those of the others' means, b their B."""
    count = len(b)
    total = np.zeros(count)
    for k in range(count):
        for j in range(max(k - NEAR, 0), min(k + NEAR + 1, count)):
            if j != k and z[k, k] > 0 and min(z[k, j], z[j, k]) > 0:
                x = min(z[k, j], z[j, k]) / z[k, k]
                own = (b[j] / b[k] - x) / (1 - min(x, 0.9))
                total[k] += x * min(max(own, 0.0), 1.0)
    part: Array = total / (1 + total)
    return part


def ratios_of(
    k: int, z: Array, a: Array, b: Array, s: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Echo, that of the others' mean, s_est, gain, and the echo in the span of
    the neighbours, of k replicas' averages; z [mode, mode], others [mode]."""
    own = np.diag(z)
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (own > 0) & (a > 0) & (b > 0)
        f = np.where(good, mixed(z, b), 0)
        ap, bp = a * (1 - f * (k - 1) / k), b * (1 - f / k)
        return (
            np.where(good, np.sqrt(np.abs(ap * own / bp)), np.nan),
            np.where(good, np.sqrt(np.abs(bp * own / ap)), np.nan),
            np.where(good, np.sqrt(np.abs(ap * bp / own)), np.nan),
            a / s,
            np.where(good, np.sqrt(np.abs(a * own / (b * (1 - f)))), np.nan),
        )


def gaps(matrix: Array, values: Array) -> Array:
    """Distance of singular values of a matrix to the nearest other one."""
    everything = np.linalg.svd(matrix, compute_uv=False)
    distance = np.sort(np.abs(everything - values[:, None]), axis=1)
    nearest: Array = distance[:, 1] if len(everything) > 1 else np.full(1, np.inf)
    return nearest


def echo(replicas: Array, max_modes: int = 16, oversample: int = 8) -> dict[str, Array]:
    """Leave-one-out echoes of one layer; replicas is [K, rows, cols]."""
    k, rows, cols = replicas.shape
    least = min(rows, cols)
    count, found = min(max_modes, least), min(max_modes + oversample, least)
    mean = replicas.mean(axis=0)
    u_ref, s_ref, v_ref = modes(mean, count)
    z = np.empty((k, count, count))
    a, b, s = (np.empty((k, count)) for _ in range(3))
    gap, margin = np.full(count, np.inf), np.full(count, np.inf)
    for i in range(k):
        others = (k * mean - replicas[i]) / (k - 1)
        own, held = modes(replicas[i], found), modes(others, found)
        u, s[i], v = match(*own, u_ref, v_ref)
        u_loo, s_loo, v_loo = match(*held, u_ref, v_ref)
        margin = np.minimum(margin, match_margin(*own, u_ref, v_ref))
        margin = np.minimum(margin, match_margin(*held, u_ref, v_ref))
        gap = np.minimum(gap, gaps(replicas[i], s[i]))
        gap = np.minimum(gap, gaps(others, s_loo))
        z[i] = (u.T @ u_loo) * (v.T @ v_loo)
        a[i] = np.einsum("ik,ij,jk->k", u, others, v)
        b[i] = np.einsum("ik,ij,jk->k", u_loo, replicas[i], v_loo)

    def ratios(*terms: Array) -> tuple[Array, ...]:
        return ratios_of(len(terms[0]), *(x.mean(axis=0) for x in terms))

    value, loo, s_est, gain, cluster = ratios(z, a, b, s)
    left_out = []
    for i in range(k):
        zi, bi, si = (np.delete(x, i, axis=0) for x in (z, b, s))
        with np.errstate(invalid="ignore", divide="ignore"):
            left_out.append(ratios(zi, held_out_without(a, b, i), bi, si))
    return {
        "echo": np.minimum(np.nan_to_num(value), 1.0),
        "echo_loo": np.minimum(np.nan_to_num(loo), 1.0),
        "echo_cluster": np.minimum(np.nan_to_num(cluster), 1.0),
        "s_est": s_est,
        "gain": gain,
        "s_mean": s_ref,
        "s_replica": s.mean(axis=0),
        "a": a.mean(axis=0),
        "b": b.mean(axis=0),
        "z": np.diag(z.mean(axis=0)),
        "gap": gap,
        "margin": margin,
        # An echo is as settled as the neighbours that may be mixed into it.
        "echo_margin": np.array([margin[max(m - NEAR, 0):m + NEAR + 1].min()
                                 for m in range(count)]),
        "echo_se": np.array(
            [jackknife(np.array([x[0][m] for x in left_out])) for m in range(count)]
        ) if k > 2 else np.full(count, np.nan),
        "gain_se": np.array(
            [jackknife(np.array([x[3][m] for x in left_out])) for m in range(count)]
        ) if k > 2 else np.full(count, np.nan),
    }


def replica_noise(replicas: Array) -> Array:
    """Noise of each replica over the mean noise; 1 when healthy."""
    k = len(replicas)
    deviation = ((replicas - replicas.mean(axis=0)) ** 2).sum(axis=(1, 2))
    ratio: Array = deviation * k / deviation.sum()
    return ratio


def laws(s_replica: Array, sigma2: float, rows: int, cols: int) -> dict[str, Array]:
    """Isotropic laws at observed singular values: theory 4 as it stands there."""
    gamma = rows / cols
    y2 = np.atleast_1d(s_replica) ** 2 / (cols * sigma2)
    edge2 = (1 + np.sqrt(gamma)) ** 2
    with np.errstate(invalid="ignore"):
        # m(z) and its derivative at z = y^2, by the derivative of the root.
        c = y2 - 1 - gamma
        root = np.sqrt(c**2 - 4 * gamma)
        top = 1 - gamma - y2 + root
        slope = (-1 + c / root) / (2 * gamma * y2) - top / (2 * gamma * y2**2)
        left = y2**2 * slope
        right = y2**2 * (gamma * slope + (1 - gamma) / y2**2)
        two_sided = 1 / np.sqrt((1 + gamma * left / y2) * (1 + right / y2))
        x4 = ((c + root) / 2) ** 2
        x2 = np.sqrt(x4)
        exact = (x4 - gamma) / np.sqrt((x4 + gamma * x2) * (x4 + x2))
    return {
        "y2": y2,
        "edge2": np.full_like(y2, edge2),
        "echo_hill": 1 / (1 + edge2 / y2),
        "echo_two_sided": two_sided,
        "echo_exact": np.nan_to_num(exact),
    }


def planted(
    rng: np.random.Generator, rows: int, cols: int, values: Array
) -> tuple[Array, Array, Array]:
    """A gradient of known modes: (G, U, V), vectors in columns."""
    u, _ = np.linalg.qr(rng.standard_normal((rows, len(values))))
    v, _ = np.linalg.qr(rng.standard_normal((cols, len(values))))
    return (u * values) @ v.T, u, v


# ---- the evidence on single modes, replica by replica ----


@dataclass
class Evidence:
    """What K replicas say of the modes of their mean; [replica, mode]."""

    rows: int
    cols: int
    sigma2: float
    s_mean: Array  # [mode]
    gap: Array  # [mode] to the nearest other singular value of the mean
    u: list[Array]  # the replicas' modes, vectors in columns
    v: list[Array]
    s: Array
    z: Array  # [replica, mode, mode] own modes with those of the others' mean
    a: Array
    b: Array
    tau2_left: Array  # [mode]
    tau2_right: Array
    total_left: Array  # [mode] with the part along the mode itself
    total_right: Array
    cross: Array  # [replica, replica, mode] u_a' G_b v_a; NaN: not partners

    def ratios(
        self, out: int | None = None, most: float = 1.0
    ) -> tuple[Array, Array, Array]:
        """Echo, s_est and gain; without one replica."""
        a, terms = self.a, (self.z, self.b, self.s)
        if out is not None:
            a = held_out_without(a, self.b, out)
            terms = tuple(np.delete(x, out, axis=0) for x in terms)
        z, b, s = (x.mean(axis=0) for x in terms)
        echo, _, s_est, gain, _ = ratios_of(len(a), z, a.mean(axis=0), b, s)
        return np.minimum(np.nan_to_num(echo), most), s_est, gain

    @property
    def replicas(self) -> int:
        return len(self.z)

    def left_out(self) -> list[tuple[Array, Array, Array]]:
        return [self.ratios(i) for i in range(self.replicas)]


def evidence(
    replicas: Array,
    max_modes: int = 16,
    oversample: int = 8,
    partners: int = 8,
    places: Sequence[int] | None = None,
    present: int | None = None,
) -> Evidence:
    """The replicas stand in a circle of `present`, these at `places`; the modes
    of each are tried on the next `partners` gradients of the circle."""
    k, rows, cols = replicas.shape
    at = list(range(k)) if places is None else list(places)
    circle = k if present is None else present
    least = min(rows, cols)
    count, found = min(max_modes, least), min(max_modes + oversample, least)
    mean = replicas.mean(axis=0)
    u_ref, s_ref, v_ref = modes(mean, count)
    z = np.empty((k, count, count))
    s, a, b = (np.empty((k, count)) for _ in range(3))
    us, vs = [], []
    left, right, total_left, total_right = np.zeros((4, count))
    cross = np.full((k, k, count), np.nan)
    for i in range(k):
        others = np.delete(replicas, i, axis=0).mean(axis=0)
        u, s[i], v = match(*modes(replicas[i], found), u_ref, v_ref)
        u_loo, _, v_loo = match(*modes(others, found), u_ref, v_ref)
        us.append(u)
        vs.append(v)
        z[i] = (u.T @ u_loo) * (v.T @ v_loo)
        a[i] = np.diag(u.T @ others @ v)
        b[i] = np.diag(u_loo.T @ replicas[i] @ v_loo)
        rest = replicas[i] - mean
        for m in range(count):
            un, vn = u_ref[:, m], v_ref[:, m]
            out_u = np.eye(rows) - np.outer(un, un)
            out_v = np.eye(cols) - np.outer(vn, vn)
            left[m] += ((out_u @ rest @ vn) ** 2).sum() / (k - 1)
            right[m] += ((out_v @ rest.T @ un) ** 2).sum() / (k - 1)
            total_left[m] += ((rest @ vn) ** 2).sum() / (k - 1)
            total_right[m] += ((rest.T @ un) ** 2).sum() / (k - 1)
        for j in range(k):
            if 0 < (at[j] - at[i]) % circle <= partners:
                cross[i, j] = np.diag(u.T @ replicas[j] @ v)
    return Evidence(rows, cols, noise(replicas)["sigma2"], s_ref,
                    gaps(mean, s_ref), us, vs, s, z, a, b, left, right,
                    total_left, total_right, cross)


def mode_t(of: Evidence) -> Array:
    """Significance statistic of every mode, over the replicas that have a
    partner left."""
    partners = (~np.isnan(of.cross)).sum(axis=1)
    cross = of.cross[(partners > 0).all(axis=1)]
    partners = partners[(partners > 0).all(axis=1)]
    mean = np.nanmean(cross, axis=1)
    square = np.nansum((cross - mean[:, None]) ** 2, axis=1)
    assumed = of.total_left / of.rows * of.total_right / of.cols / of.sigma2
    variance = (square + 2 * assumed) / (partners + 1)
    t: Array = mean.sum(axis=0) / np.sqrt((variance / partners).sum(axis=0))
    return t


def threshold(count: int) -> float:
    """What mode_t must exceed."""
    return 1.55 * NormalDist().inv_cdf(1 - 0.05 / count)


def reverb(of: Evidence) -> Array:
    """The cross-check echo of every mode."""
    k, count = of.s.shape
    z = np.array([
        [(of.u[a] * of.u[b]).sum(axis=0) * (of.v[a] * of.v[b]).sum(axis=0)
         for b in range(k)] for a in range(k)
    ])
    if k == 2:
        two: Array = np.sqrt(np.clip(z[0, 1], 0, 1))
        return two
    out = np.zeros(count)
    for m in range(count):
        pairs = z[:, :, m] - np.diag(np.diag(z[:, :, m]))
        for p in range(k):
            keep = np.arange(k) != p
            rest = pairs[np.ix_(keep, keep)]
            square = pairs[p, keep] @ rest @ pairs[p, keep] / (rest**2).sum()
            out[m] += np.sqrt(np.clip(square, 0, 1)) / k
    return out


def mode_laws(of: Evidence, s_est: Array) -> dict[str, Array]:
    """Laws that go by s_est: the mode-resolved ones as theory 4 has them, and
    the asymptotic hill law."""
    s2, left, right = s_est**2, of.tau2_left, of.tau2_right
    closed = np.maximum(s2**2 - left * right, 0) / (
        s2 * np.sqrt((s2 + left) * (s2 + right))
    )
    return {
        "tau2_left_mode": left,
        "tau2_right_mode": right,
        "anisotropy_left": left / (of.rows * of.sigma2),
        "anisotropy_right": right / (of.cols * of.sigma2),
        "echo_mode_closed": closed,
        "echo_mode": 1 / np.sqrt((1 + left / s2) * (1 + right / s2)),
        "echo_hill_asym": 1 / (1 + of.sigma2 * (of.rows + of.cols) / 2 / s2),
    }


def fit_tau2(s: Array, echo_: Array, se: Array | None = None) -> float:
    """Knee by weighted least squares, found by brute force: 1/echo - 1 on
    tau2/s^2. Without errors, all weights equal."""
    if len(s) < 2:
        return np.nan
    weight = np.ones_like(s) if se is None else echo_**4 / se**2

    def left(tau2: Array) -> Array:
        rest = 1 / echo_ - 1 - tau2[:, None] / s**2
        total: Array = (weight * rest**2).sum(axis=1)
        return total

    low, high = 0.0, float(2 * ((1 / echo_ - 1) * s**2).max())
    for _ in range(60):
        grid = np.linspace(low, high, 41)
        best = int(left(grid).argmin())
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 40)]
    return float(low + high) / 2


def fit_q(s: Array, echo_: Array, se: Array | None = None) -> float:
    """Exponent by brute force: for every tau2 of a fine grid the best q, which
    is a projection; the grid is refined. NaN where the best tau2 is at an end."""
    if len(s) < 2:
        return np.nan
    weight = np.ones_like(s) if se is None else echo_ / se
    target = -weight * np.log(echo_)

    def best(log_tau2: Array) -> tuple[int, float]:
        curve = weight * np.log1p(np.exp(log_tau2[:, None]) * (s[0] / s) ** 2)
        q = curve @ target / (curve**2).sum(axis=1)
        rest = ((target - q[:, None] * curve) ** 2).sum(axis=1)
        return int(rest.argmin()), float(q[rest.argmin()])

    grid = np.linspace(-20, 10, 6001)
    at, q = best(grid)
    if at in (0, len(grid) - 1):
        return np.nan
    for _ in range(3):
        grid = np.linspace(grid[at - 1], grid[at + 1], 101)
        at, q = best(grid)
        at = min(max(at, 1), 99)
    return q


def fits(of: Evidence, signal: NDArray[np.bool_]) -> dict[str, float]:
    """Knee and exponent over the signal modes, with jackknife errors; the
    weights stay those of all replicas."""
    echoes, s_est, _ = of.ratios()
    without = of.left_out()
    free = [of.ratios(i, most=np.inf)[0] for i in range(of.replicas)]
    se = np.array([jackknife(np.array([x[m] for x in free]))
                   for m in range(len(echoes))])[signal]
    out = {}
    for name, fit in (("tau2_fit", fit_tau2), ("q_fit", fit_q)):
        out[name] = fit(s_est[signal], echoes[signal], se)
        out[f"{name}_se"] = jackknife(
            np.array([fit(x[1][signal], x[0][signal], se) for x in without])
        )
    return out


def correlations(layers: Sequence[Array]) -> Array:
    """Of the replicas' residuals [replica, replica], all layers alike: each in
    units of its mean gradient's norm."""
    flat = []
    for replicas in layers:
        mean = replicas.mean(axis=0)
        rest = (replicas - mean).reshape(len(replicas), -1)
        flat.append(rest / np.linalg.norm(mean))
    matrix: Array = np.corrcoef(np.concatenate(flat, axis=1))
    return matrix
