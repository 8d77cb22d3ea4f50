/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pacing: model time advances at a fixed rate of real time, `dilation` real ns per model ns, so
 * that the guest's ordinary clocks include the cost of memory. Independent of QEMU: the caller
 * passes the time. Times are ns.
 */
#ifndef SENTINEL_TIMING_PACE_H
#define SENTINEL_TIMING_PACE_H

/* A vCPU may catch up if it is behind by at most this; beyond, the model clock is stopped. */
#define PACE_TOLERANCE 4e6

struct pace {
	double dilation;
	double real, model; /* start of the region */
	double slipped;	    /* real ns for which the model clock was stopped */
};

/* Begin a region: real time `real` corresponds to model time `model`. */
void pace_begin(struct pace *p, double dilation, double real, double model);

/* Returns how far model time is ahead of real time, in real ns; negative if behind. */
double pace_ahead(const struct pace *p, double real, double model);

/*
 * Returns the real ns by which the host was too slow since the region began: the time for which the
 * model clock was stopped, plus the current lag of `model`.
 */
double pace_late(const struct pace *p, double real, double model);

/* Returns the model time that corresponds to `real`. */
double pace_model(const struct pace *p, double real);

/* Stop the model clock if a vCPU at `model` is too far behind at `real`. Not thread-safe. */
void pace_behind(struct pace *p, double real, double model);

/*
 * Estimate of the dilation that a host sustains, from samples of real and model time. Samples are
 * kept in bins by their ratio, twelve per octave.
 */
#define PACE_BINS 300

struct pace_demand {
	double real[PACE_BINS], model[PACE_BINS];
};

/* Add a sample. */
void pace_observe(struct pace_demand *d, double real, double model);

/* Returns the lowest dilation for which the host is behind for at most `share` of the time. */
double pace_needed(const struct pace_demand *d, double share);

#endif
