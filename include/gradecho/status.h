/*
 * status.h - the one status type of gradecho, library and program.
 *
 * Zero is success, positive values are ordinary outcomes that are not errors,
 * negative values are errors. Values are stable. Lower is graver, so that a
 * minimum over ranks yields the gravest status.
 */
#ifndef GRADECHO_STATUS_H
#define GRADECHO_STATUS_H

#define GRADECHO_STATUS_MAP(X)                                         \
    X(GRADECHO_AGAIN, 4, "nothing yet")                                \
    X(GRADECHO_END, 3, "the end was reached")                          \
    X(GRADECHO_DROPPED, 2, "all slots in use: this sample is dropped") \
    X(GRADECHO_NOT_WANTED, 1, "nobody wants this sample")              \
    X(GRADECHO_OK, 0, "success")                                       \
    X(GRADECHO_E_NUMERIC, -1, "numerical failure")                     \
    X(GRADECHO_E_TIMEOUT, -2, "timed out")                             \
    X(GRADECHO_E_ARG, -3, "invalid argument")                          \
    X(GRADECHO_E_USAGE, -4, "usage error")                             \
    X(GRADECHO_E_INPUT, -5, "invalid input")                           \
    X(GRADECHO_E_EXISTS, -6, "already exists or is in use")            \
    X(GRADECHO_E_ABI, -7, "made by another version")                   \
    X(GRADECHO_E_NOMEM, -8, "out of memory")                           \
    X(GRADECHO_E_NOSPACE, -9, "no space left")                         \
    X(GRADECHO_E_SYS, -10, "system call failed")                       \
    X(GRADECHO_E_HDF5, -11, "HDF5 call failed")                        \
    X(GRADECHO_E_MPI, -12, "MPI call failed")

#define GRADECHO_STATUS_ENUM_(name, value, text) name = (value),
typedef enum gradecho_status {
    GRADECHO_STATUS_MAP(GRADECHO_STATUS_ENUM_)
} gradecho_status;
#undef GRADECHO_STATUS_ENUM_

#if defined(__GNUC__)
#define GRADECHO_MUST_CHECK __attribute__((warn_unused_result))
#else
#define GRADECHO_MUST_CHECK
#endif

#endif
