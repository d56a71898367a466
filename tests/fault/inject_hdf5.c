/* HDF5's calls: every failure is a negative value, but for a few. */
#include "inject_private.h"

#include <hdf5.h>
#include <hdf5_hl.h>

#define OPENS(name, params, args)                                  \
    FAULT_ACQUIRE(FAULT_HDF5, FAULT_ID, hid_t, name, params, args, \
                  H5I_INVALID_HID, 0, made >= 0)
#define CLOSES(name)                                                        \
    FAULT_RELEASE(FAULT_HDF5, FAULT_ID, herr_t, name, (hid_t id), (id), id, \
                  -1, 0)
#define CALLS(type, name, params, args) \
    FAULT_CALL(FAULT_HDF5, type, name, params, args, -1, 0)

/* ---- attributes ---- */

OPENS(H5Acreate2,
      (hid_t at, const char *name, hid_t type, hid_t space, hid_t create,
       hid_t access),
      (at, name, type, space, create, access))
OPENS(H5Aget_space, (hid_t id), (id))
OPENS(H5Aget_type, (hid_t id), (id))
OPENS(H5Aopen, (hid_t at, const char *name, hid_t access), (at, name, access))
CLOSES(H5Aclose)
CALLS(htri_t, H5Aexists, (hid_t at, const char *name), (at, name))
CALLS(herr_t, H5Aread, (hid_t id, hid_t type, void *to), (id, type, to))
CALLS(herr_t, H5Awrite, (hid_t id, hid_t type, const void *from),
      (id, type, from))

/* ---- datasets ---- */

OPENS(H5Dcreate2,
      (hid_t at, const char *name, hid_t type, hid_t space, hid_t link,
       hid_t create, hid_t access),
      (at, name, type, space, link, create, access))
OPENS(H5Dget_space, (hid_t id), (id))
OPENS(H5Dget_type, (hid_t id), (id))
OPENS(H5Dopen2, (hid_t at, const char *name, hid_t access), (at, name, access))
CLOSES(H5Dclose)
CALLS(herr_t, H5Dread,
      (hid_t id, hid_t type, hid_t memory, hid_t file, hid_t how, void *to),
      (id, type, memory, file, how, to))
CALLS(herr_t, H5Drefresh, (hid_t id), (id))
CALLS(herr_t, H5Dset_extent, (hid_t id, const hsize_t *size), (id, size))
CALLS(herr_t, H5Dwrite,
      (hid_t id, hid_t type, hid_t memory, hid_t file, hid_t how,
       const void *from),
      (id, type, memory, file, how, from))
CALLS(herr_t, H5DSattach_scale, (hid_t id, hid_t scale, unsigned dimension),
      (id, scale, dimension))
CALLS(herr_t, H5DSset_scale, (hid_t id, const char *name), (id, name))

/* ---- files, groups, links, objects ---- */

OPENS(H5Fcreate, (const char *path, unsigned flags, hid_t create, hid_t access),
      (path, flags, create, access))
OPENS(H5Fopen, (const char *path, unsigned flags, hid_t access),
      (path, flags, access))
CLOSES(H5Fclose)
CALLS(herr_t, H5Fflush, (hid_t id, H5F_scope_t scope), (id, scope))
CALLS(herr_t, H5Fstart_swmr_write, (hid_t id), (id))
OPENS(H5Gopen2, (hid_t at, const char *name, hid_t access), (at, name, access))
CLOSES(H5Gclose)
CALLS(htri_t, H5Lexists, (hid_t at, const char *name, hid_t access),
      (at, name, access))
CALLS(herr_t, H5Lvisit_by_name,
      (hid_t at, const char *group, H5_index_t index, H5_iter_order_t order,
       H5L_iterate_t visit, void *data, hid_t access),
      (at, group, index, order, visit, data, access))
OPENS(H5Oopen, (hid_t at, const char *name, hid_t access), (at, name, access))
CLOSES(H5Oclose)
CALLS(herr_t, H5Oget_info_by_name,
      (hid_t at, const char *name, H5O_info_t *info, hid_t access),
      (at, name, info, access))
CALLS(H5I_type_t, H5Iget_type, (hid_t id), (id))

/* ---- properties ---- */

OPENS(H5Pcreate, (hid_t class), (class))
CLOSES(H5Pclose)
CALLS(herr_t, H5Pset_alloc_time, (hid_t id, H5D_alloc_time_t time), (id, time))
CALLS(herr_t, H5Pset_chunk, (hid_t id, int rank, const hsize_t chunk[]),
      (id, rank, chunk))
CALLS(herr_t, H5Pset_chunk_cache,
      (hid_t id, size_t slots, size_t bytes, double preempt),
      (id, slots, bytes, preempt))
CALLS(herr_t, H5Pset_fclose_degree, (hid_t id, H5F_close_degree_t degree),
      (id, degree))
CALLS(herr_t, H5Pset_fill_time, (hid_t id, H5D_fill_time_t time), (id, time))
CALLS(herr_t, H5Pset_fill_value, (hid_t id, hid_t type, const void *value),
      (id, type, value))
CALLS(herr_t, H5Pset_libver_bounds,
      (hid_t id, H5F_libver_t low, H5F_libver_t high), (id, low, high))
CALLS(herr_t, H5Pset_metadata_read_attempts, (hid_t id, unsigned attempts),
      (id, attempts))

/* ---- spaces and types ---- */

OPENS(H5Screate, (H5S_class_t class), (class))
OPENS(H5Screate_simple, (int rank, const hsize_t size[], const hsize_t most[]),
      (rank, size, most))
CLOSES(H5Sclose)
CALLS(int, H5Sget_simple_extent_dims, (hid_t id, hsize_t *size, hsize_t *most),
      (id, size, most))
CALLS(int, H5Sget_simple_extent_ndims, (hid_t id), (id))
CALLS(hssize_t, H5Sget_simple_extent_npoints, (hid_t id), (id))
CALLS(H5S_class_t, H5Sget_simple_extent_type, (hid_t id), (id))
CALLS(herr_t, H5Sselect_hyperslab,
      (hid_t id, H5S_seloper_t how, const hsize_t start[],
       const hsize_t stride[], const hsize_t count[], const hsize_t block[]),
      (id, how, start, stride, count, block))
OPENS(H5Tcopy, (hid_t id), (id))
CLOSES(H5Tclose)
CALLS(H5T_class_t, H5Tget_class, (hid_t id), (id))
CALLS(htri_t, H5Tequal, (hid_t a, hid_t b), (a, b))
CALLS(htri_t, H5Tis_variable_str, (hid_t id), (id))
CALLS(herr_t, H5Tset_cset, (hid_t id, H5T_cset_t set), (id, set))
CALLS(herr_t, H5Tset_size, (hid_t id, size_t size), (id, size))
CALLS(herr_t, H5Tset_strpad, (hid_t id, H5T_str_t pad), (id, pad))
FAULT_CALL(FAULT_HDF5, size_t, H5Tget_size, (hid_t id), (id), 0, 0)

/* ---- what recovery and checks of a file ask for ---- */

OPENS(H5Dget_create_plist, (hid_t id), (id))
CALLS(herr_t, H5Dget_chunk_info_by_coord,
      (hid_t id, const hsize_t *at, unsigned *mask, haddr_t *address,
       hsize_t *size),
      (id, at, mask, address, size))
CALLS(herr_t, H5Fget_vfd_handle, (hid_t id, hid_t access, void **handle),
      (id, access, handle))
CALLS(herr_t, H5Fincrement_filesize, (hid_t id, hsize_t more), (id, more))
CALLS(herr_t, H5Gget_info, (hid_t id, H5G_info_t *info), (id, info))
CALLS(herr_t, H5Lget_info,
      (hid_t at, const char *name, H5L_info_t *info, hid_t access),
      (at, name, info, access))
CALLS(int, H5Pget_chunk, (hid_t id, int rank, hsize_t chunk[]),
      (id, rank, chunk))
CALLS(int, H5Pget_external_count, (hid_t id), (id))
CALLS(H5D_layout_t, H5Pget_layout, (hid_t id), (id))
CALLS(herr_t, H5Pset, (hid_t id, const char *name, const void *value),
      (id, name, value))
CALLS(herr_t, H5Pset_alignment, (hid_t id, hsize_t from, hsize_t to),
      (id, from, to))
CALLS(herr_t, H5Pset_file_locking, (hid_t id, hbool_t use, hbool_t ignore),
      (id, use, ignore))
FAULT_CALL(FAULT_HDF5, haddr_t, H5Dget_offset, (hid_t id), (id), HADDR_UNDEF, 0)
FAULT_CALL(FAULT_HDF5, hsize_t, H5Dget_storage_size, (hid_t id), (id), 0, 0)
