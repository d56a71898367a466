/* Opening files, and what is in them, that somebody else made or is making. */
#include "hdf5_util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A reader in SWMR mode repeats a metadata read whose checksum fails, and
 * sleeps 1, 2, 4, ... ns between two: HDF5's own 100 attempts never end on a
 * damaged file. 28 attempts wait 0.27 s in all, a thousand times longer than
 * the one write() that can tear a block. */
#define METADATA_ATTEMPTS 28

/* How often to look again whether a growing file has reached the end that its
 * superblock promises: HDF5 writes the superblock first. */
#define END_ATTEMPTS 20
#define END_WAIT_NS 1000000L

/* Where the fields of a version 2 or 3 superblock with 8-byte addresses lie
 * (HDF5 file format specification, II.A). */
enum {
    AT_VERSION = 8,
    AT_ADDRESS_SIZE = 9,
    AT_FLAGS = 11,
    AT_END = 28,
    SUPERBLOCK = 48
};

struct probe {
    bool writing;  /* marked as open for writing */
    uint64_t end;  /* the superblock's end of file, 0 if unknown */
    uint64_t size; /* bytes of the file, looked at after `end` */
};

static gradecho_status read_superblock(const char *what, const char *path,
                                       int fd, struct probe *probe)
{
    static const unsigned char signature[8] = {0x89, 'H',  'D',  'F',
                                               '\r', '\n', 0x1a, '\n'};
    gradecho_status status = GRADECHO_OK;
    unsigned char head[SUPERBLOCK] = {0};
    off_t at = 0;
    ssize_t got = 0;

    /* HDF5 allows a user block: the superblock at 0, 512, 1024, ... */
    do {
        got = pread(fd, head, sizeof head, at);
        GE_FAIL_IF(got < 0, GRADECHO_E_INPUT, "%s %s: %s", what, path,
                   strerror(errno));
        GE_FAIL_IF(got == 0 && at == 0, GRADECHO_E_INPUT, "%s %s is empty",
                   what, path);
        GE_FAIL_IF(got < (ssize_t)sizeof head, GRADECHO_E_INPUT,
                   "%s %s is not an HDF5 file", what, path);
        if (memcmp(head, signature, sizeof signature) == 0)
            break;
        at = at == 0 ? 512 : 2 * at;
    } while (true);

    if (at == 0 && head[AT_VERSION] >= 2 && head[AT_ADDRESS_SIZE] == 8) {
        probe->writing = (head[AT_FLAGS] & 1U) != 0;
        for (int i = 7; i >= 0; i--)
            probe->end = probe->end << 8 | head[AT_END + i];
    }
fail:
    return status;
}

static gradecho_status probe_file(const char *what, const char *path,
                                  struct probe *probe)
{
    gradecho_status status = GRADECHO_OK;
    struct stat about;
    int fd = -1;

    *probe = (struct probe){0};
    /* Before open(): that would wait for the other side of a FIFO. */
    GE_FAIL_IF(stat(path, &about) != 0, GRADECHO_E_INPUT, "%s %s: %s", what,
               path, strerror(errno));
    GE_FAIL_IF(
        !S_ISREG(about.st_mode), GRADECHO_E_INPUT, "%s %s is not a %s", what,
        path, S_ISDIR(about.st_mode) ? "file but a directory" : "regular file");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    GE_FAIL_IF(fd < 0, GRADECHO_E_INPUT, "%s %s: %s", what, path,
               strerror(errno));
    GE_TRY(read_superblock(what, path, fd, probe));
    GE_FAIL_IF(fstat(fd, &about) != 0, GRADECHO_E_INPUT, "%s %s: %s", what,
               path, strerror(errno));
    probe->size = (uint64_t)about.st_size;
fail:
    if (fd >= 0)
        close(fd);
    return status;
}

/* HDF5 reads zeros beyond the end of a file that is marked as open for
 * writing, so a log that was cut off after a crash must be told. */
static void warn_if_cut_off(const char *what, const char *path,
                            struct probe *probe)
{
    for (int i = 0; i < END_ATTEMPTS && probe->size < probe->end; i++) {
        const struct timespec wait = {.tv_nsec = END_WAIT_NS};

        nanosleep(&wait, NULL);
        if (probe_file(what, path, probe) < GRADECHO_OK)
            return; /* the open that follows will fail and decide */
    }
    if (probe->size < probe->end)
        ge_warn("%s %s has %llu of %llu bytes: its writer was killed or the "
                "file was cut off, its last rows may read as zero",
                what, path, (unsigned long long)probe->size,
                (unsigned long long)probe->end);
}

gradecho_status ge_h5_open(const char *what, const char *path, hid_t *file,
                           bool *live)
{
    gradecho_status status = GRADECHO_OK;
    hid_t access = H5I_INVALID_HID, opened = H5I_INVALID_HID;
    struct probe probe = {0};
    bool writing = false;

    ge_h5_quiet();
    GE_TRY(probe_file(what, path, &probe));
    OPEN_H5(path, access, H5Pcreate(H5P_FILE_ACCESS));
    TRY_H5(path, H5Pset_fclose_degree(access, H5F_CLOSE_SEMI));
    TRY_H5(path, H5Pset_metadata_read_attempts(access, METADATA_ATTEMPTS));
    do {
        writing = probe.writing;
        if (writing)
            warn_if_cut_off(what, path, &probe);
        opened = H5Fopen(
            path, H5F_ACC_RDONLY | (writing ? H5F_ACC_SWMR_READ : 0U), access);
        if (opened >= 0)
            break;
        /* The writer may have closed it in the meantime: then once more. */
        GE_TRY(probe_file(what, path, &probe));
    } while (writing && !probe.writing);
    if (opened < 0)
        (void)ge_h5_failed(path, "H5Fopen");
    if (opened < 0)
        status = GRADECHO_E_INPUT;
fail:
    ge_h5_close(path, &access, H5Pclose, &status);
    if (status < GRADECHO_OK) {
        ge_h5_close(path, &opened, H5Fclose, &status);
        return status;
    }
    *file = opened;
    *live = writing;
    return status;
}

gradecho_status ge_h5_check_link(const char *path, hid_t group,
                                 const char *where, const char *name,
                                 bool *exists)
{
    gradecho_status status = GRADECHO_OK;
    H5L_info_t about;
    htri_t found = 0;

    *exists = false;
    TRY_H5(path, found = H5Lexists(group, name, H5P_DEFAULT));
    if (found == 0)
        return status;
    TRY_H5(path, H5Lget_info(group, name, &about, H5P_DEFAULT));
    GE_FAIL_IF(about.type != H5L_TYPE_HARD, GRADECHO_E_INPUT,
               "%s: %s%s: is a soft or external link; store the data itself",
               path, where, name);
    *exists = true;
fail:
    return status;
}

gradecho_status ge_h5_check_stored(const char *path, const char *where,
                                   const char *name, hid_t dataset)
{
    gradecho_status status = GRADECHO_OK;
    hid_t creation = H5I_INVALID_HID;
    H5D_layout_t layout = H5D_LAYOUT_ERROR;
    int files = 0;

    OPEN_H5(path, creation, H5Dget_create_plist(dataset));
    TRY_H5(path, layout = H5Pget_layout(creation));
    TRY_H5(path, files = H5Pget_external_count(creation));
    GE_FAIL_IF(layout == H5D_VIRTUAL || files > 0, GRADECHO_E_INPUT,
               "%s: %s%s: its data are in another dataset or file; store the "
               "data itself",
               path, where, name);
fail:
    ge_h5_close(path, &creation, H5Pclose, &status);
    return status;
}

gradecho_status ge_h5_open_dataset(const char *path, hid_t group,
                                   const char *where, const char *name,
                                   hid_t access, hid_t *dataset)
{
    gradecho_status status = GRADECHO_OK;
    bool exists = false;

    GE_TRY(ge_h5_check_link(path, group, where, name, &exists));
    if (!exists)
        return status;
    OPEN_H5(path, *dataset, H5Dopen2(group, name, access));
    GE_TRY(ge_h5_check_stored(path, where, name, *dataset));
fail:
    return status;
}
