"""An independent reading of the formulas, in plain NumPy and double precision.

Written from the mathematics (docs/theory.md), not from the C code: what both
say of the same gradients must agree.
"""

from __future__ import annotations

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
    edge = np.sqrt(sigma2) * (np.sqrt(rows) + np.sqrt(cols))
    return {
        "sigma2": sigma2,
        "sigma2_se": jackknife(np.array(left_out)),
        "grad_sqnorm": sqnorm,
        "noise_trace": trace,
        "noise_scale": batch_size * trace / sqnorm,
        "edge": edge,
        "tau2_edge": edge**2,
        "tau2_asym": sigma2 * (rows + cols) / 2,
    }


def jackknife(left_out: Array) -> float:
    """Standard error from the values with one replica left out each."""
    k = len(left_out)
    return float(np.sqrt((k - 1) / k * ((left_out - left_out.mean()) ** 2).sum()))


def match(
    u: Array, s: Array, v: Array, u_ref: Array, v_ref: Array
) -> tuple[Array, Array, Array]:
    """Columns of u, v one-to-one in the order of the reference's columns."""
    overlap = (u_ref.T @ u) * (v_ref.T @ v)
    free = overlap.copy()
    order = np.empty(u_ref.shape[1], dtype=int)
    for _ in range(len(order)):
        ref, found = np.unravel_index(np.nanargmax(np.abs(free)), free.shape)
        order[ref] = found
        free[ref, :] = np.nan
        free[:, found] = np.nan
    sign = np.sign(overlap[np.arange(len(order)), order])
    return u[:, order] * sign, s[order], v[:, order]


def modes(a: Array, count: int) -> tuple[Array, Array, Array]:
    """Leading singular triples: vectors in columns."""
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    return u[:, :count], s[:count], vt[:count].T


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
    z, a, b, s = (np.empty((k, count)) for _ in range(4))
    gap = np.full(count, np.inf)
    for i in range(k):
        others = (k * mean - replicas[i]) / (k - 1)
        u, s[i], v = match(*modes(replicas[i], found), u_ref, v_ref)
        u_loo, s_loo, v_loo = match(*modes(others, found), u_ref, v_ref)
        gap = np.minimum(gap, gaps(replicas[i], s[i]))
        gap = np.minimum(gap, gaps(others, s_loo))
        z[i] = (u * u_loo).sum(axis=0) * (v * v_loo).sum(axis=0)
        a[i] = np.einsum("ik,ij,jk->k", u, others, v)
        b[i] = np.einsum("ik,ij,jk->k", u_loo, replicas[i], v_loo)

    def ratios(keep: NDArray[np.bool_]) -> tuple[Array, Array, Array, Array]:
        za, aa, ba, sa = (x[keep].mean(axis=0) for x in (z, a, b, s))
        with np.errstate(invalid="ignore", divide="ignore"):
            good = (za > 0) & (aa > 0) & (ba > 0)
            return (
                np.where(good, np.sqrt(np.abs(aa * za / ba)), np.nan),
                np.where(good, np.sqrt(np.abs(ba * za / aa)), np.nan),
                np.where(good, np.sqrt(np.abs(aa * ba / za)), np.nan),
                aa / sa,
            )

    every = np.ones(k, dtype=bool)
    value, loo, s_est, gain = ratios(every)
    left_out = [ratios(np.arange(k) != i) for i in range(k)]
    return {
        "echo": np.minimum(np.nan_to_num(value), 1.0),
        "echo_loo": np.minimum(np.nan_to_num(loo), 1.0),
        "s_est": s_est,
        "gain": gain,
        "s_mean": s_ref,
        "s_replica": s.mean(axis=0),
        "a": a.mean(axis=0),
        "b": b.mean(axis=0),
        "z": z.mean(axis=0),
        "gap": gap,
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
