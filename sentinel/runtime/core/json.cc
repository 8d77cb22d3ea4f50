/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <set>

#include <nlohmann/json.hpp>

namespace sentinel
{
namespace json
{
namespace
{

constexpr int kMaxDepth = 64;

/* Iterates over the text and publishes its position, so that errors can name line and column. */
struct Cursor {
	using iterator_category = std::input_iterator_tag;
	using value_type = char;
	using difference_type = std::ptrdiff_t;
	using pointer = const char *;
	using reference = const char &;

	const char *position;
	const char **published;

	reference operator*() const
	{
		return *position;
	}
	Cursor &operator++()
	{
		*published = ++position;
		return *this;
	}
	bool operator==(const Cursor &other) const
	{
		return position == other.position;
	}
	bool operator!=(const Cursor &other) const
	{
		return position != other.position;
	}
};

std::string place(const std::string &text, const char *position)
{
	const char *start = text.data();
	auto line_start = std::find(std::make_reverse_iterator(position),
				    std::make_reverse_iterator(start), '\n')
				  .base();

	return "line " + std::to_string(1 + std::count(start, position, '\n')) + ", column " +
	       std::to_string(position - line_start);
}

/* nlohmann-json's message without "[json.exception.parse_error.101] parse error at ". */
std::string plain(const std::string &message)
{
	for (const char *prefix : {"parse error at ", "parse error: ", "] "}) {
		size_t start = message.find(prefix);
		if (start != std::string::npos)
			return message.substr(start + std::string(prefix).size());
	}
	return message;
}

} // namespace

nlohmann::json parse(const std::string &text)
{
	const char *position = text.data();
	std::vector<std::set<std::string>> keys; /* of the objects around the position */
	auto check = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json &parsed) {
		using Event = nlohmann::json::parse_event_t;

		if (depth > kMaxDepth)
			throw Error(place(text, position) + ": nested more than " +
				    std::to_string(kMaxDepth) + " levels deep");
		if (event == Event::object_start)
			keys.emplace_back();
		else if (event == Event::object_end)
			keys.pop_back();
		else if (event == Event::key && !keys.back().insert(parsed).second)
			throw Error(place(text, position) + ": duplicate key '" +
				    parsed.get<std::string>() + "'");
		return true;
	};

	try {
		return nlohmann::json::parse(Cursor{position, &position},
					     Cursor{position + text.size(), &position}, check);
	} catch (const nlohmann::json::exception &e) {
		throw Error(plain(e.what()));
	}
}

void Value::fail(const std::string &problem) const
{
	throw Error((path_.empty() ? "the document" : path_) + ": " + problem);
}

bool Value::is_null() const
{
	return node_->is_null();
}

bool Value::has(const std::string &key) const
{
	return node_->contains(key);
}

Value Value::operator[](const std::string &key) const
{
	if (!node_->is_object())
		fail("must be an object");
	auto member = node_->find(key);
	if (member == node_->end())
		fail("lacks '" + key + "'");
	return Value(*member, path_.empty() ? key : path_ + "." + key);
}

std::vector<Value> Value::items() const
{
	std::vector<Value> items;

	if (!node_->is_array())
		fail("must be a list");
	for (const nlohmann::json &item : *node_)
		items.emplace_back(item, path_ + "[" + std::to_string(items.size()) + "]");
	return items;
}

const std::string &Value::string() const
{
	if (!node_->is_string())
		fail("must be a string");
	return node_->get_ref<const std::string &>();
}

int64_t Value::integer(int64_t min, int64_t max) const
{
	bool fits = node_->is_number_unsigned() ? node_->get<uint64_t>() <= uint64_t(INT64_MAX)
						: node_->is_number_integer();

	if (!fits || node_->get<int64_t>() < min || node_->get<int64_t>() > max)
		fail("must be an integer from " + std::to_string(min) + " to " +
		     std::to_string(max));
	return node_->get<int64_t>();
}

bool Value::boolean() const
{
	if (!node_->is_boolean())
		fail("must be true or false");
	return node_->get<bool>();
}

void Value::allow_only(const std::vector<std::string> &keys) const
{
	if (!node_->is_object())
		fail("must be an object");
	for (auto &member : node_->items())
		if (std::find(keys.begin(), keys.end(), member.key()) == keys.end())
			fail("unknown key '" + member.key() + "'");
}

} // namespace json
} // namespace sentinel
