/*
 * version.h - the version of gradecho that these headers belong to.
 *
 * The build reads the three numbers from here: this is their only place.
 */
#ifndef GRADECHO_VERSION_H
#define GRADECHO_VERSION_H

#define GRADECHO_VERSION_MAJOR 0
#define GRADECHO_VERSION_MINOR 1
#define GRADECHO_VERSION_PATCH 0

#define GRADECHO_VERSION_TEXT_(a, b, c) #a "." #b "." #c
#define GRADECHO_VERSION_TEXT(a, b, c) GRADECHO_VERSION_TEXT_(a, b, c)
#define GRADECHO_VERSION                                                  \
    GRADECHO_VERSION_TEXT(GRADECHO_VERSION_MAJOR, GRADECHO_VERSION_MINOR, \
                          GRADECHO_VERSION_PATCH)

#endif
