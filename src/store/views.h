/*
 * views.h
 *    Building a view, with the marks that tell whether it still holds. Private to the store.
 */
#ifndef CSEG_STORE_VIEWS_H
#define CSEG_STORE_VIEWS_H

#include "store/pages.h"
#include "store/store.h"

extern StoreView *view_build(Relation rel, Snapshot snapshot, MemoryContext parent, PageMarks *marks);

#endif /* CSEG_STORE_VIEWS_H */
