#include "forge.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Sizes that go wrong easily; none makes the reader read for minutes. */
static const hsize_t odd_lengths[] = {0,
                                      1,
                                      2,
                                      3,
                                      5,
                                      255,
                                      65536,
                                      1 << 20,
                                      UINT32_MAX,
                                      (hsize_t)1 << 33,
                                      (hsize_t)1 << 62};
enum { LENGTHS = sizeof odd_lengths / sizeof *odd_lengths };

/* Beyond this a dataset is declared, but not written. */
static const hsize_t written_max = 4096;

static char forged[256];

static void remove_forged(void)
{
    unlink(forged);
}

/* The one file; every forgery overwrites it. In $TMPDIR, which whoever makes a
 * crash likely clears, else in memory. */
static const char *forged_path(int *fd)
{
    static int opened = -1;
    const char *folder = getenv("TMPDIR");

    if (opened < 0) {
        snprintf(forged, sizeof forged, "%s/forged.XXXXXX",
                 folder != NULL && folder[0] != '\0' ? folder : "/dev/shm");
        opened = mkostemp(forged, O_CLOEXEC);
        FUZZ_CHECK(opened >= 0);
        atexit(remove_forged);
    }
    *fd = opened;
    return forged;
}

hid_t forge_begin(uint8_t format)
{
    const bool live = format % 16 == 15;
    const H5F_libver_t oldest = live         ? H5F_LIBVER_V110
                                : format % 2 ? H5F_LIBVER_V18
                                             : H5F_LIBVER_EARLIEST;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    hid_t file = H5I_INVALID_HID;
    int fd = -1;

    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5Pset_libver_bounds(access, oldest, H5F_LIBVER_V110);
    file = H5Fcreate(forged_path(&fd), H5F_ACC_TRUNC, H5P_DEFAULT, access);
    FUZZ_CHECK(file >= 0);
    H5Pclose(access);
    return file;
}

static hid_t odd_type(struct fuzz_bytes *in)
{
    hid_t type = H5I_INVALID_HID;

    switch (fuzz_u8(in) % 14) {
    case 0:
        return H5Tcopy(H5T_STD_U8LE);
    case 1:
        return H5Tcopy(H5T_STD_I64BE);
    case 2:
        return H5Tcopy(H5T_IEEE_F32LE);
    case 3:
        return H5Tcopy(H5T_IEEE_F64BE);
    case 4: /* a text of fixed length */
        type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, 1 + fuzz_u16(in));
        return type;
    case 5: /* and of any length */
        type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, H5T_VARIABLE);
        return type;
    case 6:
        return H5Tvlen_create(H5T_NATIVE_DOUBLE);
    case 7:
        type = H5Tcreate(H5T_COMPOUND, 16);
        H5Tinsert(type, "a", 0, H5T_NATIVE_DOUBLE);
        H5Tinsert(type, "b", 8, H5T_NATIVE_INT64);
        return type;
    case 8: {
        const hsize_t two = 2;

        return H5Tarray_create2(H5T_NATIVE_FLOAT, 1, &two);
    }
    case 9:
        return H5Tcopy(H5T_STD_REF_OBJ);
    case 10:
        return H5Tcopy(H5T_STD_B32LE);
    case 11:
        return H5Tcreate(H5T_OPAQUE, 1 + fuzz_u8(in));
    case 12: /* a float of unusual width */
        type = H5Tcopy(H5T_IEEE_F32LE);
        H5Tset_fields(type, 15, 10, 5, 0, 10);
        H5Tset_size(type, 2);
        return type;
    default:
        return H5Tenum_create(H5T_NATIVE_INT);
    }
}

static void write_some(hid_t dataset, const struct forge_plan *plan,
                       struct fuzz_bytes *in)
{
    hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    const hssize_t count = H5Sget_simple_extent_npoints(space);
    const size_t size = H5Tget_size(type);
    const H5T_class_t class = H5Tget_class(type);

    /* Text of any length, and references, would be pointers in memory. */
    if (count > 0 && (hsize_t)count * size <= written_max &&
        class != H5T_VLEN && class != H5T_REFERENCE &&
        H5Tis_variable_str(type) <= 0) {
        uint8_t *values = malloc((size_t)count * size);

        FUZZ_CHECK(values != NULL);
        for (size_t i = 0; i < (size_t)count * size; i++)
            values[i] = in->left > 0 ? fuzz_u8(in) : (uint8_t)(i % size == 0);
        if (H5Tget_class(plan->type) == H5T_STRING && class == H5T_STRING)
            memset(values, 'n', (size_t)count * size - 1);
        H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
        free(values);
    }
    H5Tclose(type);
    H5Sclose(space);
}

/* Storage that is not simply in the file. */
static void odd_storage(hid_t creation, const struct forge_plan *plan,
                        struct fuzz_bytes *in)
{
    hid_t space = H5I_INVALID_HID;

    switch (fuzz_u8(in) % 9) {
    case 0:
        H5Pset_layout(creation, H5D_COMPACT);
        break;
    case 1:
        H5Pset_layout(creation, H5D_CONTIGUOUS);
        H5Pset_external(creation, "/dev/zero", 0, H5F_UNLIMITED);
        break;
    case 2: /* a view of another dataset, perhaps of itself */
        space = H5Screate_simple(plan->rank, plan->dims, NULL);
        H5Pset_virtual(creation, space, fuzz_u8(in) % 2 ? "." : "/dev/full",
                       plan->name, space);
        H5Sclose(space);
        break;
    case 3:
        H5Pset_deflate(creation, 1);
        break;
    case 4:
        H5Pset_shuffle(creation);
        H5Pset_fletcher32(creation);
        break;
    case 5:
        H5Pset_nbit(creation);
        break;
    case 6:
        H5Pset_scaleoffset(creation, H5Z_SO_INT, 0);
        break;
    case 7: /* a filter that nobody has */
        H5Pset_filter(creation, 32000 + fuzz_u8(in), H5Z_FLAG_OPTIONAL, 0,
                      NULL);
        break;
    default:
        H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
        H5Pset_alloc_time(creation, H5D_ALLOC_TIME_LATE);
        break;
    }
}

static void make_dataset(hid_t parent, const struct forge_plan *plan,
                         hid_t type, int odd, struct fuzz_bytes *in)
{
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
    hsize_t most[H5S_MAX_RANK], chunk[H5S_MAX_RANK];

    for (int i = 0; i < plan->rank; i++) {
        most[i] = plan->dims[i];
        chunk[i] = plan->dims[i] > 0 && plan->dims[i] < 64 ? plan->dims[i] : 8;
    }
    if (plan->grows && plan->rank > 0)
        most[0] = H5S_UNLIMITED;
    if ((plan->grows || odd) && plan->rank > 0)
        H5Pset_chunk(creation, plan->rank, chunk);
    if (odd)
        odd_storage(creation, plan, in);
    space = plan->rank > 0 ? H5Screate_simple(plan->rank, plan->dims, most)
                           : H5Screate(H5S_SCALAR);
    dataset = H5Dcreate2(parent, plan->name, type, space, H5P_DEFAULT, creation,
                         H5P_DEFAULT);
    /* Not through a view: one of itself overflows HDF5's stack. */
    if (dataset >= 0 && H5Pget_layout(creation) != H5D_VIRTUAL)
        write_some(dataset, plan, in);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(creation);
}

static void make_link(hid_t parent, const char *name, struct fuzz_bytes *in)
{
    hid_t made = H5I_INVALID_HID;

    switch (fuzz_u8(in) % 8) {
    case 0:
        H5Lcreate_soft("/step", parent, name, H5P_DEFAULT, H5P_DEFAULT);
        break;
    case 1: /* to itself */
        H5Lcreate_soft(name, parent, name, H5P_DEFAULT, H5P_DEFAULT);
        break;
    case 2:
        H5Lcreate_external("/dev/zero", "/x", parent, name, H5P_DEFAULT,
                           H5P_DEFAULT);
        break;
    case 3: /* a cycle */
        H5Lcreate_hard(parent, "/", parent, name, H5P_DEFAULT, H5P_DEFAULT);
        break;
    case 4:
        made = H5Gcreate2(parent, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        H5Gclose(made);
        break;
    case 5:
        made = H5Tcopy(H5T_NATIVE_INT);
        H5Tcommit2(parent, name, made, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        H5Tclose(made);
        break;
    default: /* missing */
        break;
    }
}

void forge_dataset(hid_t parent, const struct forge_plan *plan,
                   struct fuzz_bytes *in)
{
    struct forge_plan odd = *plan;
    const uint8_t oddness = fuzz_u8(in);
    hid_t type = H5Tcopy(plan->type);

    if (oddness == 1) {
        make_link(parent, plan->name, in);
        H5Tclose(type);
        return;
    }
    if (oddness == 2 || oddness == 3) {
        H5Tclose(type);
        type = odd_type(in);
    }
    if (oddness == 3 || oddness == 4) {
        odd.rank = fuzz_u8(in) % 5;
        for (int i = plan->rank; i < odd.rank; i++)
            odd.dims[i] = 2;
    }
    if (oddness == 5 && odd.rank > 0)
        odd.dims[fuzz_u8(in) % odd.rank] = odd_lengths[fuzz_u8(in) % LENGTHS];
    if (oddness == 7)
        odd.grows = !odd.grows;
    make_dataset(parent, &odd, type, oddness == 6, in);
    H5Tclose(type);
}

void forge_attribute(hid_t object, const char *name, long long number,
                     const char *text, struct fuzz_bytes *in)
{
    static const unsigned char values[1 << 16];
    const uint8_t oddness = fuzz_u8(in);
    hsize_t count = oddness == 3 ? 1 + fuzz_u8(in) % 3 : 1;
    hid_t space = oddness == 4   ? H5Screate(H5S_NULL)
                  : oddness == 3 ? H5Screate_simple(1, &count, NULL)
                                 : H5Screate(H5S_SCALAR);
    hid_t type = H5I_INVALID_HID, attribute = H5I_INVALID_HID;

    if (oddness == 2) {
        type = odd_type(in);
    } else if (text != NULL) {
        type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, strlen(text) + 1);
    } else {
        type = H5Tcopy(H5T_NATIVE_LLONG);
    }
    if (oddness == 5)
        number = (long long)fuzz_number(in, 8);
    if (oddness != 1)
        attribute =
            H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute >= 0 && oddness != 2 && oddness != 3)
        H5Awrite(attribute, type,
                 text != NULL ? (const void *)text : (const void *)&number);
    else if (attribute >= 0 && H5Tget_size(type) * 3 < sizeof values)
        H5Awrite(attribute, type, values);
    H5Aclose(attribute);
    H5Tclose(type);
    H5Sclose(space);
}

/* Each edit: where (3 bytes, a part of the whole), how (1 byte), value. */
static size_t damage(uint8_t *image, size_t size, struct fuzz_bytes *in)
{
    while (in->left > 0 && size > 0) {
        const size_t at = (size_t)fuzz_number(in, 3) % size;
        const uint8_t how = fuzz_u8(in);
        const uint8_t value = fuzz_u8(in);

        switch (how % 8) {
        case 0:
            image[at] ^= (uint8_t)(1U << (value % 8));
            break;
        case 1: /* cut off */
            size = at;
            break;
        case 2:
            memset(image + at, value, size - at < 8 ? size - at : 8);
            break;
        case 3: { /* a block from elsewhere */
            const size_t from = (size_t)fuzz_number(in, 3) % size;
            const size_t most = size - (at > from ? at : from);

            memmove(image + at, image + from, value < most ? value : most);
            break;
        }
        case 4: /* the flags of the superblock: open for writing */
            if (size > 11)
                image[11] = value;
            break;
        default:
            image[at] = value;
            break;
        }
    }
    return size;
}

static uint8_t *read_back(int fd, size_t *size)
{
    struct stat about;
    uint8_t *image = NULL;

    FUZZ_CHECK(fstat(fd, &about) == 0);
    *size = (size_t)about.st_size;
    image = malloc(*size + 1);
    FUZZ_CHECK(image != NULL);
    FUZZ_CHECK(pread(fd, image, *size, 0) == about.st_size);
    return image;
}

const char *forge_finish(hid_t file, struct fuzz_bytes *in)
{
    int fd = -1;
    const char *path = forged_path(&fd);
    uint8_t *image = NULL;
    size_t size = 0;
    /* Fails for older formats. What is there now is what a writer that is
     * killed leaves behind. */
    const bool live = H5Fstart_swmr_write(file) >= 0;

    if (live)
        image = read_back(fd, &size);
    H5Fclose(file);
    if (!live)
        image = read_back(fd, &size);
    size = damage(image, size, in);
    FUZZ_CHECK(ftruncate(fd, 0) == 0);
    FUZZ_CHECK(pwrite(fd, image, size, 0) == (ssize_t)size);
    free(image);
    return path;
}
