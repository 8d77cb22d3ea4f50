/* SPDX-License-Identifier: Apache-2.0 */
/* JSON (RFC 8259), read into a tree and written piece by piece. */
#ifndef SENTINEL_RUNTIME_JSON_H
#define SENTINEL_RUNTIME_JSON_H

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace sentinel
{
namespace json
{

/* The text is no JSON, or not what was asked for; `what` is one line. */
struct Error : std::runtime_error {
	using std::runtime_error::runtime_error;
};

/*
 * A value, and where in the document it is ("moves[3].at"). Who asks it for something that it is
 * not gets an Error that says where, and what is wanted.
 */
class Value
{
      public:
	enum class Type { null, boolean, integer, real, string, array, object };

	bool null() const
	{
		return type_ == Type::null;
	}
	bool has(const std::string &key) const;
	/* A member; an Error if there is none, or if this is no object. */
	const Value &operator[](const std::string &key) const;
	const std::vector<Value> &items() const;
	const std::string &text() const;
	/* An integer in [least, most]. */
	int64_t integer(int64_t least, int64_t most) const;
	bool boolean() const;
	/* An object with these keys at most. */
	void only(const std::vector<std::string> &keys) const;
	[[noreturn]] void fail(const std::string &what) const;

      private:
	friend class Parser;
	Type type_ = Type::null;
	int64_t integer_ = 0;
	std::string text_, where_;
	std::vector<Value> items_;
	std::map<std::string, Value> members_;
};

/* The whole text as one value. Duplicate keys, and more than 64 levels, are errors. */
Value parse(const std::string &text);

/* `text` between quotes, as JSON has it. */
std::string quoted(const std::string &text);

} // namespace json
} // namespace sentinel

#endif
