/*
 * log_layout.h - what a new log holds before its first row: root attributes,
 * dimension scales and one growing dataset per field.
 *
 * Internal to src/log. Everything is made here, at once, because nothing may
 * be added after SWMR has started.
 */
#ifndef GRADECHO_LOG_LAYOUT_H
#define GRADECHO_LOG_LAYOUT_H

#include "hdf5_util.h"
#include "writer.h"

/* Dimensions of a dataset, step included. */
#define GE_RANK_MAX 3

/* Names that the reader and the writer share. */
#define GE_ATTRIBUTE_SCHEMA "gradecho_schema"
#define GE_ATTRIBUTE_VERSION "gradecho_version"
#define GE_ATTRIBUTE_SESSION "session"
#define GE_ATTRIBUTE_CREATED "created"
#define GE_ATTRIBUTE_WORLD_SIZE "world_size"
#define GE_ATTRIBUTE_CONFIG "config"
#define GE_ATTRIBUTE_CLEAN_CLOSE "clean_close"
#define GE_ATTRIBUTE_RESTARTS "restarts"

/* Objects below the root: the fields, /step, and what does not grow. */
enum { GE_LAYOUT_OBJECTS = GE_FIELDS + 7 };

/* Open a growing dataset of a file that exists, for appending. `size`: bytes of
 * an item. */
GRADECHO_MUST_CHECK gradecho_status
ge_layout_open(const char *path, hid_t file, const char *name,
               const hsize_t row[GE_RANK_MAX], size_t size, hid_t *dataset);

/* Rank of a field's dataset and the lengths of one row, dims[0] being 1. */
int ge_layout_row(enum ge_shape shape, const struct ge_dimensions *dims,
                  hsize_t row[GE_RANK_MAX]);

/* Fill an empty file.
 *
 * \param step, fields  the growing datasets, left open; on failure those that
 *                      were opened are the caller's to close
 * \return GRADECHO_E_HDF5, GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_layout_create(hid_t file, const struct ge_log_spec *spec, hid_t *step,
                 hid_t fields[GE_FIELDS]);

#endif
