/* SPDX-License-Identifier: Apache-2.0 */
/* usage: runtime pools | moves | plan <PLAN | plans <PLANS | layers NAME=TYPE... | identity [CASE]
 * | steps [PLAN STEPS [loops | extra | first]] */
#include <string>
#include <vector>

#include "check.h"
#include "core/framework.h"

void pools();
void moves();
void plan();
void plans();
void layers(const std::vector<std::string> &arguments);
void identity(const std::vector<std::string> &arguments);
void steps(const std::vector<std::string> &arguments);

namespace sentinel
{

/* The framework of these tests */
bool registered()
{
	return true;
}

int devices()
{
	return 0;
}

} // namespace sentinel

int main(int argc, char **argv)
{
	std::string what = argc > 1 ? argv[1] : "";
	std::vector<std::string> rest(argv + (argc > 1 ? 2 : 1), argv + argc);

	if (what == "pools")
		pools();
	else if (what == "moves")
		moves();
	else if (what == "plan")
		plan();
	else if (what == "plans")
		plans();
	else if (what == "layers")
		layers(rest);
	else if (what == "identity")
		identity(rest);
	else if (what == "steps")
		steps(rest);
	else
		return 2;
	return 0;
}
