// SPDX-License-Identifier: GPL-2.0-or-later
#include "pace.h"

#include <math.h>

#define BINS_PER_OCTAVE 12
#define MIN_LOG2	-5 /* log2 of the lowest ratio */

void pace_begin(struct pace *p, double dilation, double real, double model)
{
	*p = (struct pace){.dilation = dilation, .real = real, .model = model};
}

double pace_ahead(const struct pace *p, double real, double model)
{
	return (model - p->model) * p->dilation - (real - p->real - p->slipped);
}

double pace_late(const struct pace *p, double real, double model)
{
	return p->slipped - pace_ahead(p, real, model);
}

double pace_model(const struct pace *p, double real)
{
	return p->model + (real - p->real - p->slipped) / p->dilation;
}

void pace_behind(struct pace *p, double real, double model)
{
	double behind = -pace_ahead(p, real, model);

	if (behind > PACE_TOLERANCE)
		p->slipped += behind;
}

void pace_observe(struct pace_demand *d, double real, double model)
{
	double ratio = model > 0 ? log2(real / model) - MIN_LOG2 : INFINITY;
	int bin = PACE_BINS - 1;

	if (ratio < 0)
		bin = 0;
	else if (ratio * BINS_PER_OCTAVE < PACE_BINS - 1)
		bin = (int)(ratio * BINS_PER_OCTAVE);
	d->real[bin] += real;
	d->model[bin] += model;
}

double pace_needed(const struct pace_demand *d, double share)
{
	double dilation = 1;

	for (int bin = 0; bin < PACE_BINS; bin++) {
		double behind = 0, total = 0;

		dilation = exp2((double)(bin + 1) / BINS_PER_OCTAVE + MIN_LOG2);
		for (int i = 0; i < PACE_BINS; i++) {
			double paced = d->model[i] * dilation;

			total += d->real[i] > paced ? d->real[i] : paced;
			behind += d->real[i] > paced ? d->real[i] - paced : 0;
		}
		if (behind <= share * total)
			break;
	}
	return dilation < 1 ? 1 : dilation;
}
