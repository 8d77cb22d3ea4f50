/* SPDX-License-Identifier: Apache-2.0 */
/* Reading JSON with errors that name the place. The parser is nlohmann-json's. */
#ifndef SENTINEL_RUNTIME_JSON_H
#define SENTINEL_RUNTIME_JSON_H

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace sentinel
{
namespace json
{

/* Invalid JSON, or a value of the wrong kind; the message is one line and names the place. */
struct Error : std::runtime_error {
	using std::runtime_error::runtime_error;
};

/*
 * A value in a document, with its path ("moves[3].at"). The document must outlive it. Accessors
 * throw Error if the value is not what they return.
 */
class Value
{
public:
	Value(const nlohmann::json &node, std::string path) : node_(&node), path_(std::move(path))
	{
	}

	bool is_null() const;
	bool has(const std::string &key) const;
	/* The member `key` of an object. */
	Value operator[](const std::string &key) const;
	std::vector<Value> items() const;
	const std::string &string() const;
	/* An integer in [min, max]. */
	int64_t integer(int64_t min, int64_t max) const;
	bool boolean() const;
	/* Throw Error if the object has a key outside `keys`. */
	void allow_only(const std::vector<std::string> &keys) const;
	[[noreturn]] void fail(const std::string &problem) const;

private:
	const nlohmann::json *node_;
	std::string path_;
};

/* Parse the whole text. Throws Error also for duplicate keys and more than 64 levels of nesting. */
nlohmann::json parse(const std::string &text);

} // namespace json
} // namespace sentinel

#endif
