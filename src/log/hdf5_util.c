#include "hdf5_util.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* No attribute of ours comes near; a damaged file may claim anything. */
#define TEXT_MAX ((size_t)16 << 20)

void ge_h5_quiet(void)
{
    /* We close what we open. What could not be closed, because the disk is
     * full, HDF5 would try again at exit, and crash. Only the first call of all
     * has an effect. */
    (void)H5dont_atexit();
    /* Cannot fail with these arguments, and nothing depends on it. */
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static herr_t take_innermost(unsigned n, const H5E_error2_t *error, void *data)
{
    char *cause = data;

    (void)n;
    if (error->desc != NULL)
        strncpy(cause, error->desc, GE_MESSAGE_MAX / 2 - 1);
    return 1; /* walking upward, the first is the innermost: stop */
}

/* "file write failed: time = ..., errno = 28, error message = 'No space left
 * on device', buf = ...": of this, what a person needs, in one line. */
static void shorten(char *cause)
{
    static const char mark[] = "error message = '";
    const char *reason = strstr(cause, mark);
    char *end = strstr(cause, ": time = ");

    if (reason != NULL && end != NULL) {
        reason += sizeof mark - 1;
        memcpy(end, ": ", 2);
        memmove(end + 2, reason, strcspn(reason, "'") + 1);
        end[2 + strcspn(end + 2, "'")] = '\0';
    }
    cause[strcspn(cause, "\n")] = '\0';
}

gradecho_status ge_h5_failed(const char *path, const char *call)
{
    char cause[GE_MESSAGE_MAX / 2] = "";
    const char *api = strstr(call, "H5"); /* skip "result = " */
    int length = 0;

    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, cause);
    (void)H5Eclear2(H5E_DEFAULT);
    shorten(cause);
    api = api != NULL ? api : call;
    length = (int)strcspn(api, "(");
    ge_error("%s: %.*s: %s", path, length, api,
             cause[0] != '\0' ? cause : "failed without a reason");
    return GRADECHO_E_HDF5;
}

void ge_h5_close(const char *path, hid_t *id, herr_t (*closer)(hid_t),
                 gradecho_status *status)
{
    if (*id < 0)
        return;
    if (closer(*id) < 0 && *status >= GRADECHO_OK)
        *status = ge_h5_failed(path, "H5 close");
    *id = H5I_INVALID_HID;
}

gradecho_status ge_h5_type_size(const char *path, hid_t type, size_t *size)
{
    *size = H5Tget_size(type);
    return *size > 0 ? GRADECHO_OK : ge_h5_failed(path, "H5Tget_size");
}

gradecho_status ge_h5_text_type(const char *path, size_t size, hid_t *type)
{
    gradecho_status status = GRADECHO_OK;
    hid_t made = H5I_INVALID_HID;

    OPEN_H5(path, made, H5Tcopy(H5T_C_S1));
    TRY_H5(path, H5Tset_size(made, size));
    TRY_H5(path, H5Tset_cset(made, H5T_CSET_UTF8));
    TRY_H5(path, H5Tset_strpad(made, H5T_STR_NULLTERM));
    *type = made;
    return GRADECHO_OK;
fail:
    ge_h5_close(path, &made, H5Tclose, &status);
    return status;
}

/* A new scalar attribute of type `stored` from memory of type `given`. */
static gradecho_status write_attribute(const char *path, hid_t object,
                                       const char *name, hid_t stored,
                                       hid_t given, const void *value)
{
    gradecho_status status = GRADECHO_OK;
    hid_t space = H5I_INVALID_HID, attribute = H5I_INVALID_HID;

    OPEN_H5(path, space, H5Screate(H5S_SCALAR));
    OPEN_H5(path, attribute,
            H5Acreate2(object, name, stored, space, H5P_DEFAULT, H5P_DEFAULT));
    TRY_H5(path, H5Awrite(attribute, given, value));
fail:
    ge_h5_close(path, &attribute, H5Aclose, &status);
    ge_h5_close(path, &space, H5Sclose, &status);
    return status;
}

gradecho_status ge_h5_write_text(const char *path, hid_t object,
                                 const char *name, const char *text)
{
    gradecho_status status = GRADECHO_OK;
    hid_t type = H5I_INVALID_HID;

    /* With its terminator even an empty text has a size that HDF5 accepts. */
    GE_TRY(ge_h5_text_type(path, strlen(text) + 1, &type));
    GE_TRY(write_attribute(path, object, name, type, type, text));
fail:
    ge_h5_close(path, &type, H5Tclose, &status);
    return status;
}

gradecho_status ge_h5_write_int(const char *path, hid_t object,
                                const char *name, int64_t value)
{
    return write_attribute(path, object, name, H5T_STD_I64LE, H5T_NATIVE_INT64,
                           &value);
}

gradecho_status ge_h5_change_int(const char *path, hid_t object,
                                 const char *name, int64_t value)
{
    gradecho_status status = GRADECHO_OK;
    hid_t attribute = H5I_INVALID_HID;

    OPEN_H5(path, attribute, H5Aopen(object, name, H5P_DEFAULT));
    TRY_H5(path, H5Awrite(attribute, H5T_NATIVE_INT64, &value));
fail:
    ge_h5_close(path, &attribute, H5Aclose, &status);
    return status;
}

/* Open an attribute that must be there and hold a single value. */
static gradecho_status open_attribute(const char *path, hid_t object,
                                      const char *name, hid_t *attribute,
                                      hid_t *type)
{
    gradecho_status status = GRADECHO_OK;
    hid_t space = H5I_INVALID_HID;
    hssize_t values = 0;
    htri_t exists = 0;

    TRY_H5(path, exists = H5Aexists(object, name));
    GE_FAIL_IF(exists == 0, GRADECHO_E_INPUT, "%s: attribute %s is missing",
               path, name);
    OPEN_H5(path, *attribute, H5Aopen(object, name, H5P_DEFAULT));
    OPEN_H5(path, *type, H5Aget_type(*attribute));
    OPEN_H5(path, space, H5Aget_space(*attribute));
    TRY_H5(path, values = H5Sget_simple_extent_npoints(space));
    GE_FAIL_IF(values != 1, GRADECHO_E_INPUT,
               "%s: attribute %s is not a single value", path, name);
fail:
    ge_h5_close(path, &space, H5Sclose, &status);
    return status;
}

/* The text of an open attribute whose length the file chooses per value. */
static gradecho_status read_variable_text(const char *path, hid_t attribute,
                                          hid_t type, char **text)
{
    gradecho_status status = GRADECHO_OK;
    char *read = NULL;

    TRY_H5(path, H5Aread(attribute, type, &read));
    *text = strdup(read != NULL ? read : "");
    GE_FAIL_IF(*text == NULL, GRADECHO_E_NOMEM, "%s: out of memory", path);
fail:
    (void)H5free_memory(read); /* HDF5's allocation, not ours */
    return status;
}

gradecho_status ge_h5_read_text(const char *path, hid_t object,
                                const char *name, char **text)
{
    gradecho_status status = GRADECHO_OK;
    hid_t attribute = H5I_INVALID_HID, type = H5I_INVALID_HID;
    H5T_class_t class = H5T_NO_CLASS;
    char *fixed = NULL;
    size_t size = 0;
    htri_t variable = 0;

    GE_TRY(open_attribute(path, object, name, &attribute, &type));
    TRY_H5(path, class = H5Tget_class(type));
    GE_FAIL_IF(class != H5T_STRING, GRADECHO_E_INPUT,
               "%s: attribute %s is not a text", path, name);
    TRY_H5(path, variable = H5Tis_variable_str(type));
    if (variable > 0) {
        GE_TRY(read_variable_text(path, attribute, type, text));
    } else {
        GE_TRY(ge_h5_type_size(path, type, &size));
        GE_FAIL_IF(size > TEXT_MAX, GRADECHO_E_INPUT,
                   "%s: attribute %s is longer than %zu bytes", path, name,
                   TEXT_MAX);
        fixed = ge_alloc(size + 1, 1); /* padding may leave no terminator */
        GE_FAIL_IF(fixed == NULL, GRADECHO_E_NOMEM, "%s: out of memory", path);
        TRY_H5(path, H5Aread(attribute, type, fixed));
        *text = fixed;
        fixed = NULL;
    }
fail:
    free(fixed);
    ge_h5_close(path, &type, H5Tclose, &status);
    ge_h5_close(path, &attribute, H5Aclose, &status);
    return status;
}

static gradecho_status read_number(const char *path, hid_t object,
                                   const char *name, bool integer, void *value)
{
    gradecho_status status = GRADECHO_OK;
    hid_t attribute = H5I_INVALID_HID, type = H5I_INVALID_HID;
    H5T_class_t class = H5T_NO_CLASS;

    GE_TRY(open_attribute(path, object, name, &attribute, &type));
    TRY_H5(path, class = H5Tget_class(type));
    GE_FAIL_IF(class != H5T_INTEGER && (integer || class != H5T_FLOAT),
               GRADECHO_E_INPUT, "%s: attribute %s is not %s", path, name,
               integer ? "an integer" : "a number");
    TRY_H5(path,
           H5Aread(attribute, integer ? H5T_NATIVE_INT64 : H5T_NATIVE_DOUBLE,
                   value));
fail:
    ge_h5_close(path, &type, H5Tclose, &status);
    ge_h5_close(path, &attribute, H5Aclose, &status);
    return status;
}

gradecho_status ge_h5_read_int(const char *path, hid_t object, const char *name,
                               int64_t *value)
{
    return read_number(path, object, name, true, value);
}

gradecho_status ge_h5_read_double(const char *path, hid_t object,
                                  const char *name, double *value)
{
    return read_number(path, object, name, false, value);
}

gradecho_status ge_h5_shape(const char *path, const char *name, hid_t dataset,
                            int limit, int *rank, hsize_t *dims)
{
    gradecho_status status = GRADECHO_OK;
    hid_t space = H5I_INVALID_HID;
    H5S_class_t class = H5S_NO_CLASS;
    int found = 0;

    OPEN_H5(path, space, H5Dget_space(dataset));
    TRY_H5(path, found = H5Sget_simple_extent_ndims(space));
    TRY_H5(path, class = H5Sget_simple_extent_type(space));
    GE_FAIL_IF(class != H5S_SIMPLE || found > limit, GRADECHO_E_INPUT,
               "%s: dataset %s is no array of up to %d dimensions", path, name,
               limit);
    TRY_H5(path, H5Sget_simple_extent_dims(space, dims, NULL));
    *rank = found;
fail:
    ge_h5_close(path, &space, H5Sclose, &status);
    return status;
}

gradecho_status ge_h5_type(const char *path, hid_t dataset, H5T_class_t *class,
                           size_t *size)
{
    gradecho_status status = GRADECHO_OK;
    hid_t type = H5I_INVALID_HID;

    OPEN_H5(path, type, H5Dget_type(dataset));
    TRY_H5(path, *class = H5Tget_class(type));
    GE_TRY(ge_h5_type_size(path, type, size));
fail:
    ge_h5_close(path, &type, H5Tclose, &status);
    return status;
}
