"""Every function that the programs import is either made to fail by libfaults
or stands below with a reason: a new external call cannot be forgotten.

    check_imports.py LIBFAULTS PROGRAM...
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable

# Reason -> names, as regular expressions.
EXCLUDED = {
    "data, not a function": (
        r"H5(P_CLS_|T_)\w+_g ompi_(mpi|request)_\w+ stderr stdout (__)?environ"
    ),
    "start-up code of the compiler and the C library": (
        r"_ITM_\w+ __cxa_finalize __gmon_start__ __libc_start_main "
        r"__tls_get_addr __errno_location __stack_chk_fail __ctype_b_loc"
    ),
    "arithmetic": (
        r"acosh ceil copysign cos erfc exp exp2 floor fmax fmin fminf frexp hypot ilogb ldexp "
        r"log log10 log1p lrint pow rint sin sincos sqrt "
        r"cblas_\w+"
    ),
    "text and memory in place: nothing to acquire, no way to fail": (
        r"mem(chr|cmp|cpy|move|set) str(chr|chrnul|cmp|cspn|len|ncasecmp|ncmp"
        r"|ncpy|nlen|rchr|spn|str) stpcpy mbrtowc wcwidth qsort_r v?snprintf strftime strerror strto(d|ll|ul|ull) qsort "
        r"fnmatch nl_langinfo dirname dirfd strcasecmp strtol to(lower|upper) __sched_cpucount "
        r"__isoc99_[fs]scanf"
    ),
    "cannot fail with the arguments it is given": (
        r"clock_gettime time sysconf sigaction signal sigemptyset openblas_set_\w+ "
        r"yaml_parser_set_input_string yaml_document_get_(root_)?node "
        r"pthread_(mutex_(init|lock|unlock|destroy)|cond_(init|wait|signal|destroy)|sigmask|join) "
        r"getrusage sigfillset json_null MPI_Wtime sigaddset posix_spawnattr_set(flags|pgroup|sigdefault|sigmask)"
    ),
    "its answer is an answer, not a failure": r"getenv geteuid getpid isatty ioctl",
    "a wait, which may end early": r"nanosleep sched_yield syscall poll",
    "writes to a stream: the stream keeps the error for ferror() and fflush(), "
    "which are made to fail; /dev/full in the tests of config and inspect": (
        r"v?f?printf fput[cs] fwrite puts putchar putc"
    ),
    "allocates in a library whose allocations are made to fail one by one": (
        r"json_(array|object|string|integer|real|pack|dumpf|dumps|array_append_new"
        r"|object_set_new|object_update) "
        r"yaml_parser_(initialize|load)"
    ),
    "gives back, and says nothing": (
        r"json_delete yaml_(parser|document)_delete H5free_memory "
        r"posix_spawn(attr|_file_actions)_destroy"
    ),
    "the live view's terminal: nothing is lost with it, and what cannot be drawn "
    "is not seen; a terminal that cannot be used is in the tests of follow": (
        r"newterm delscreen endwin cbreak noecho nonl keypad curs_set set_escdelay "
        r"has_colors start_color use_default_colors init_pair w(addch|addnstr|attr_off"
        r"|attr_on|erase|getch|hline|move|refresh|timeout)"
    ),
    "does not return": r"abort exit _exit MPI_Abort execlp",
    "ends a process, or tries to": r"kill raise",
    "usage errors of the command line: prints": r"argp_error",
    "HDF5's own error stack, behind a failure; and what its macros call, "
    "dropping the result": (r"H5E(clear2|set_auto2|walk2) H5open H5check_version "
    r"H5dont_atexit"),
}


def excluded() -> list[re.Pattern[str]]:
    return [
        re.compile(name) for names in EXCLUDED.values() for name in names.split()
    ]


def symbols(path: str, *options: str) -> set[str]:
    lines = subprocess.run(
        ["nm", "-D", *options, path], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return {line.split()[-1].partition("@")[0] for line in lines}


def forgotten(imported: Iterable[str], faulty: set[str]) -> list[str]:
    known = excluded()
    return sorted(
        name
        for name in imported
        if name not in faulty and not any(one.fullmatch(name) for one in known)
    )


def main() -> int:
    libfaults, *programs = sys.argv[1:]
    faulty = symbols(libfaults, "--defined-only")
    assert programs and "open" in faulty
    assert forgotten(["open", "cos", "epoll_create"], faulty) == ["epoll_create"]
    both = [name for name in faulty if any(p.fullmatch(name) for p in excluded())]
    for name in both:
        print(f"{name} is excluded, but made to fail")
    bad = len(both)
    for program in programs:
        imported = symbols(program, "--undefined-only")
        missing = forgotten(imported, faulty)
        for name in missing:
            print(
                f"{program} calls {name}: make it fail in inject_*.c, or say in "
                "check_imports.py why not"
            )
        bad += len(missing)
        print(
            f"{program}: {len(imported & faulty)} of {len(imported)} imports are "
            "made to fail"
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
