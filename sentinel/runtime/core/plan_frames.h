/* SPDX-License-Identifier: Apache-2.0 */
/* What version 2 adds to a plan. All functions throw json::Error at the first violation. */
#ifndef SENTINEL_RUNTIME_PLAN_FRAMES_H
#define SENTINEL_RUNTIME_PLAN_FRAMES_H

#include <cstddef>

#include "json.h"
#include "plan.h"

namespace sentinel
{

/* Set the frame of a group. */
void parse_frame(const json::Value &v, const Plan &plan, Group &group);

/* Set `map`, `frame` and `copy` of a group's move. */
void parse_frame(const json::Value &v, const Plan &plan, Move &move);

/* Set the plan's uses, and check its tensors and moves against them. */
void parse_uses(const json::Value &document, Plan &plan);

/* The group without `keep` that has exactly these pages, or -1. */
int group_of(const Plan &plan, size_t offset, size_t size);

/* The mappings that windows need: one for the home, and one for each frame range of the group. */
size_t frame_mappings(const Plan &plan);

} // namespace sentinel

#endif
