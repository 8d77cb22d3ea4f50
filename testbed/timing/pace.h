/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pacing: model time goes by at a fixed rate of real time, `dilation` real ns for each model ns, so
 * that the guest's ordinary clocks see what memory costs. It knows nothing of QEMU; the caller says
 * what time it is. Times are ns.
 */
#ifndef SENTINEL_TIMING_PACE_H
#define SENTINEL_TIMING_PACE_H

/* A vCPU that is no further behind than this will catch up; further, and the model stands still. */
#define PACE_TOLERANCE 4e6

struct pace {
	double dilation;
	double real, model; /* when the region began */
	double slipped;	    /* real ns for which the model stood still */
};

/* A region begins: real time `real` is model time `model` from here on. */
void pace_begin(struct pace *p, double dilation, double real, double model);

/* How far, in real ns, model time `model` is ahead of real time `real`; negative if it is behind.
 */
double pace_ahead(const struct pace *p, double real, double model);

/* For how long, in real ns, the model stood still or `model` is behind: what the host was too slow
 * for since the region began. */
double pace_late(const struct pace *p, double real, double model);

/* The model time that real time `real` stands for. */
double pace_model(const struct pace *p, double real);

/* Note that a vCPU at `model` is only there at `real`. Not thread-safe. */
void pace_behind(struct pace *p, double real, double model);

/*
 * What dilation a host sustains: fed with how long pieces of model time took unpaced. Pieces are
 * kept by their ratio, in steps of a twelfth of an octave.
 */
#define PACE_BINS 300

struct pace_demand {
	double real[PACE_BINS], model[PACE_BINS];
};

void pace_observe(struct pace_demand *d, double real, double model);

/* The smallest dilation with which the host would be behind for at most `share` of the time. */
double pace_needed(const struct pace_demand *d, double share);

#endif
