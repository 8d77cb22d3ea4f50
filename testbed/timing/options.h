/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plugin's configuration file: lines "name value", with the names in options.c. */
#ifndef SENTINEL_TIMING_OPTIONS_H
#define SENTINEL_TIMING_OPTIONS_H

#include <stdbool.h>

#include "model.h"

#define OPTIONS_PATH 4096 /* size of a path */

struct options {
	struct model_config model;
	double window;	/* maximum distance of vCPUs, model ns */
	double page_ns; /* fixed time to migrate a page */
	char log_path[OPTIONS_PATH], clock_path[OPTIONS_PATH];
};

/* Read the file at `path`. Options that it does not set keep their values. Returns false, with a
 * message on stderr, on failure. */
bool options_read(struct options *options, const char *path);

#endif
