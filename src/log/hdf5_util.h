/*
 * hdf5_util.h - how the log layer talks to HDF5.
 *
 * Identifiers start at H5I_INVALID_HID, are acquired in order and closed in
 * reverse by ge_h5_close(). The first failure is told once, with the file and
 * the innermost cause on HDF5's error stack. HDF5 is called by one thread.
 *
 * Internal to src/log: the only header that shows <hdf5.h>.
 */
#ifndef GRADECHO_LOG_HDF5_UTIL_H
#define GRADECHO_LOG_HDF5_UTIL_H

#include <stdbool.h>
#include <stdint.h>

#include "try.h"

#include <hdf5.h>

/* Acquire an identifier. `path` names the file to the person. Like TRY_H5, it
 * needs a local `gradecho_status status` and a label `fail:`. */
#define OPEN_H5(path, id, call)                   \
    do {                                          \
        (id) = (call);                            \
        if ((id) < 0) {                           \
            status = ge_h5_failed((path), #call); \
            goto fail;                            \
        }                                         \
    } while (0)

/* Every HDF5 return type signals failure by a negative value; so
 * TRY_H5(path, exists = H5Aexists(...)) works too. */
#define TRY_H5(path, call)                        \
    do {                                          \
        if ((call) < 0) {                         \
            status = ge_h5_failed((path), #call); \
            goto fail;                            \
        }                                         \
    } while (0)

/* Before anything else: what HDF5 says of itself stays off the terminal (per
 * thread), and it does nothing at exit. */
void ge_h5_quiet(void);

/* Tell the innermost cause of the failed `call` (source text). \return
 * GRADECHO_E_HDF5, always */
gradecho_status ge_h5_failed(const char *path, const char *call);

/* Close *id, whatever came before, and invalidate it; an invalid one is
 * accepted. The first failure is told and kept in *status. */
void ge_h5_close(const char *path, hid_t *id, herr_t (*closer)(hid_t),
                 gradecho_status *status);

/* Open `path` for reading; `what` ("log", "gradients") is for messages. A file
 * that is being written, or whose writer was killed, is opened in SWMR mode
 * (*live).
 * \return GRADECHO_E_INPUT  missing, not a file, empty, not HDF5, or damaged;
 *         GRADECHO_E_HDF5 */
GRADECHO_MUST_CHECK gradecho_status ge_h5_open(const char *what,
                                               const char *path, hid_t *file,
                                               bool *live);

/* Bytes of one value of a type: HDF5 tells its failure by 0. */
GRADECHO_MUST_CHECK gradecho_status ge_h5_type_size(const char *path,
                                                    hid_t type, size_t *size);

/* Open the dataset `name` right under `group`: one that is stored in this file.
 * Links to elsewhere, views of other datasets and data in other files are
 * refused, because they make HDF5 open whatever path the file names, a FIFO
 * that never answers for example, and a view of itself overflows its stack.
 *
 * \param where    what it is, for messages: "layer " or "dataset "
 * \param access   access properties, H5P_DEFAULT
 * \param dataset  untouched if there is none of that name
 * \return GRADECHO_E_INPUT, GRADECHO_E_HDF5 */
GRADECHO_MUST_CHECK gradecho_status
ge_h5_open_dataset(const char *path, hid_t group, const char *where,
                   const char *name, hid_t access, hid_t *dataset);

/* The same for a dataset that is open. */
GRADECHO_MUST_CHECK gradecho_status ge_h5_check_stored(const char *path,
                                                       const char *where,
                                                       const char *name,
                                                       hid_t dataset);

/* Refuse a link that is not a plain one; *exists: there is one.
 * \return as above */
GRADECHO_MUST_CHECK gradecho_status ge_h5_check_link(const char *path,
                                                     hid_t group,
                                                     const char *where,
                                                     const char *name,
                                                     bool *exists);

/* Fixed-length, null-terminated UTF-8 of `size` bytes (terminator included). */
GRADECHO_MUST_CHECK gradecho_status ge_h5_text_type(const char *path,
                                                    size_t size, hid_t *type);

/* New attributes of `object`; none stays open (SWMR cannot start else). */
GRADECHO_MUST_CHECK gradecho_status ge_h5_write_text(const char *path,
                                                     hid_t object,
                                                     const char *name,
                                                     const char *text);
GRADECHO_MUST_CHECK gradecho_status ge_h5_write_int(const char *path,
                                                    hid_t object,
                                                    const char *name,
                                                    int64_t value);

/* Overwrite an integer attribute that exists; its size does not change. */
GRADECHO_MUST_CHECK gradecho_status ge_h5_change_int(const char *path,
                                                     hid_t object,
                                                     const char *name,
                                                     int64_t value);

/* Text attribute, fixed or variable length, in memory that the caller frees.
 * \return GRADECHO_E_INPUT  absent, no single text, or absurdly long */
GRADECHO_MUST_CHECK gradecho_status ge_h5_read_text(const char *path,
                                                    hid_t object,
                                                    const char *name,
                                                    char **text);

/* One number from an attribute of integer (or floating-point) type.
 * \return GRADECHO_E_INPUT  absent or no single number */
GRADECHO_MUST_CHECK gradecho_status ge_h5_read_int(const char *path,
                                                   hid_t object,
                                                   const char *name,
                                                   int64_t *value);
GRADECHO_MUST_CHECK gradecho_status ge_h5_read_double(const char *path,
                                                      hid_t object,
                                                      const char *name,
                                                      double *value);

/* A dataset's rank and lengths.
 * \return GRADECHO_E_INPUT  more than `limit` dimensions, or not an array */
GRADECHO_MUST_CHECK gradecho_status ge_h5_shape(const char *path,
                                                const char *name, hid_t dataset,
                                                int limit, int *rank,
                                                hsize_t *dims);

/* Class of a dataset's elements and their bytes. */
GRADECHO_MUST_CHECK gradecho_status ge_h5_type(const char *path, hid_t dataset,
                                               H5T_class_t *class,
                                               size_t *size);

#endif
