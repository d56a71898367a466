# shellcheck shell=bash
# What gradecho needs from the system, and how to install what is missing.
#
# Sourced by launch/demo and tests/run; Debian 12, Ubuntu 22.04 and later. On
# other systems every function only checks for the programs and says what is
# missing. All functions return non-zero after one line on standard error.

# To build and run.
PACKAGES_BUILD=(
    gcc libc6-dev ninja-build cmake pkg-config
    libopenmpi-dev openmpi-bin libopenblas-dev liblapacke-dev
    libhdf5-dev libyaml-dev libjansson-dev libncurses-dev
)

# To test, on top of these.
PACKAGES_TEST=(
    g++ clang clang-tidy clang-format libcmocka-dev valgrind shellcheck
    hdf5-tools iproute2 tmux man-db mandoc python3 python3-numpy python3-h5py python3-pytest
    python3-venv python3-matplotlib python3-pandas python3-xarray
    python3-prometheus-client python3-yaml
)

# To test the PyTorch side; where there are no such packages, those tests skip.
PACKAGES_TORCH=(python3-torch python3-sklearn)
TORCH_VERSION=2.13.0

# The oldest CMake that reads our CMakePresets.json.
CMAKE_MIN=3.25

packages_say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# packages_installed NAME: is this package there, installed and configured?
packages_installed() {
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) \
        == installed ]]
}

# packages_install NAME...: install those that are missing.
packages_install() {
    local name missing=() root=()

    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null
    then
        packages_without_apt
        return
    fi
    for name; do
        packages_installed "$name" || missing+=("$name")
    done
    ((${#missing[@]} > 0)) || return 0

    packages_say "installing ${missing[*]}"
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            packages_say "not root and no sudo: run as root:" \
                "apt-get install ${missing[*]}"
            return 1
        fi
        root=(sudo)
    fi
    packages_apt update && packages_apt install -y --no-install-recommends \
        "${missing[@]}"
}

# packages_apt ARGUMENT...: apt-get as root; its output only if it fails.
# Uses the array `root` of its caller.
packages_apt() {
    local output

    # By env: sudo would drop a variable that is set before it.
    output=$("${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q "$@" </dev/null 2>&1) && return
    printf '%s\n' "$output" | tail -n 20 >&2
    packages_say "apt-get $1 failed"
    return 1
}

# No apt: the packages have other names, so look for what they provide.
packages_without_apt() {
    local program missing=()

    for program in cc ninja cmake pkg-config mpicc mpirun; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    ((${#missing[@]} > 0)) || return 0
    packages_say "no apt on this system: please install ${missing[*]}," \
        "and Open MPI, OpenBLAS, LAPACKE, HDF5, libyaml, jansson and" \
        "ncurses with their headers"
    return 1
}

# packages_version_at_least HAVE WANT
packages_version_at_least() {
    [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]
}

packages_cmake_fits() {
    local version

    version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*//p')
    [[ -n $version ]] && packages_version_at_least "$version" "$CMAKE_MIN"
}

# packages_cmake FOLDER: put a CMake that is new enough on PATH. Ubuntu 22.04
# has 3.22; a newer one then goes into a Python environment in FOLDER.
packages_cmake() {
    local tools=$1

    packages_cmake_fits && return
    PATH=$tools/bin:$PATH
    hash -r
    packages_cmake_fits && return

    packages_install python3 python3-venv || return
    packages_say "installing CMake >= $CMAKE_MIN into $tools"
    if ! python3 -m venv "$tools" ||
        ! "$tools/bin/pip" install -q "cmake>=$CMAKE_MIN,<4" >&2; then
        packages_say "cannot install CMake >= $CMAKE_MIN: please install it"
        return 1
    fi
    hash -r
    packages_cmake_fits
}

# The sanitizer runtime of clang is a package of its own from Debian 12 and
# Ubuntu 22.10 on; before, it came with clang.
packages_clang_runtime() {
    local version name

    version=$(clang -dumpversion) || return
    name=libclang-rt-${version%%.*}-dev
    if command -v apt-cache >/dev/null &&
        [[ -n $(apt-cache show "$name" 2>/dev/null) ]]; then
        packages_install "$name"
    fi
}

# packages_for_build TREE, packages_for_test TREE: all that a build, or the
# whole test suite, of the source tree needs.
packages_for_build() {
    packages_install "${PACKAGES_BUILD[@]}" &&
        packages_cmake "$1/build/tools"
}

packages_for_test() {
    packages_install "${PACKAGES_BUILD[@]}" "${PACKAGES_TEST[@]}" &&
        packages_clang_runtime &&
        packages_cmake "$1/build/tools" &&
        packages_torch &&
        packages_python "$1/build/python"
}

packages_torch() {
    command -v apt-cache >/dev/null || return 0
    [[ -n $(apt-cache show "${PACKAGES_TORCH[0]}" 2>/dev/null) ]] || return 0
    packages_install "${PACKAGES_TORCH[@]}"
}

# packages_python FOLDER: Python environments from PyPI, once: FOLDER/tools to
# check and build the package, FOLDER/torch with a current PyTorch. The first is
# needed; the second is tried, and what needs it is skipped.
packages_python() {
    local folder=$1 torch=$1/torch

    if [[ ! -e $folder/tools/done ]]; then
        packages_say "installing ruff, mypy, scikit-build-core into $folder"
        /usr/bin/python3 -m venv --clear "$folder/tools" &&
            packages_pip "$folder/tools" ruff mypy scikit-build-core ||
            return
        touch "$folder/tools/done"
    fi
    [[ ! -e $torch/done && ! -e $torch/failed ]] || return 0
    packages_say "installing PyTorch $TORCH_VERSION into $torch"
    # By name and without what they depend on: the default build of PyTorch
    # asks for gigabytes of CUDA. One that cannot do without them is a failure;
    # pip's own settings say where it finds a build for the CPU.
    if /usr/bin/python3 -m venv --clear --system-site-packages "$torch" &&
        packages_pip "$torch" --no-deps --ignore-installed \
            "torch==$TORCH_VERSION" filelock typing-extensions sympy mpmath \
            networkx jinja2 markupsafe fsspec &&
        "$torch/bin/python" -c 'import torch.distributed' 2>/dev/null; then
        touch "$torch/done"
    else
        packages_say "PyTorch $TORCH_VERSION cannot be had: its tests will skip"
        rm -rf -- "$torch"
        mkdir -p "$torch" && touch "$torch/failed"
    fi
}

# packages_pip FOLDER ARGUMENT...: its output only if it fails.
packages_pip() {
    local folder=$1 output

    shift
    output=$("$folder/bin/pip" install --quiet "$@" 2>&1 </dev/null) && return
    printf '%s\n' "$output" | tail -n 10 >&2
    return 1
}
