/*
 * forge.h - HDF5 files that are odd or damaged, out of a fuzzer's bytes.
 *
 * Random bytes rarely are an HDF5 file. So the bytes decide how a small file is
 * made (valid HDF5, but not what the reader hopes for: wrong shapes and types,
 * links that lead elsewhere, cycles, storage in other files, filters), and then
 * which bytes of its image are changed. There is one file at a time, in memory.
 */
#ifndef GRADECHO_TESTS_FORGE_H
#define GRADECHO_TESTS_FORGE_H

#include <hdf5.h>

#include "fuzz.h"

/* What a dataset would be if nothing were odd about it. */
struct forge_plan {
    const char *name;
    hid_t type; /* in the file; H5T_STRING types are written as text */
    int rank;
    hsize_t dims[4];
    int grows; /* the first dimension is unlimited, in chunks */
};

/* A new file in memory. The low bits of `format` choose among the oldest
 * format, which has no checksums and so lets damage through to deeper code; the
 * one before SWMR; and, rarely because its reader waits, a file that looks as
 * if its writer were alive. */
hid_t forge_begin(uint8_t format);

/* Make the dataset, or what one byte of `in` puts in its place. */
void forge_dataset(hid_t parent, const struct forge_plan *plan,
                   struct fuzz_bytes *in);

/* The same for an attribute: a number, or a text if `text` is not NULL. */
void forge_attribute(hid_t object, const char *name, long long number,
                     const char *text, struct fuzz_bytes *in);

/* Close the file; change bytes as the rest of `in` says; write it back. \return
 * its path, the same for every forgery */
const char *forge_finish(hid_t file, struct fuzz_bytes *in);

#endif
