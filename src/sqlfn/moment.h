/*
 * moment.h
 *    The moment for which definitions are evaluated.
 */
#ifndef CSEG_MOMENT_H
#define CSEG_MOMENT_H

#include "postgres.h"

/* The setting customer_segmentation.as_of: empty for now. */
extern char *moment_setting;

#endif /* CSEG_MOMENT_H */
