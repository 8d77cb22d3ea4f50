/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace sentinel
{
namespace json
{

class Parser
{
      public:
	explicit Parser(const std::string &text) : text_(text)
	{
	}

	Value document()
	{
		Value v = value("", 0);
		space();
		if (at_ != text_.size())
			fail("something after the end of the document");
		return v;
	}

      private:
	static constexpr int kDepth = 64;

	[[noreturn]] void fail(const std::string &what) const
	{
		size_t line = 1 + std::count(text_.begin(), text_.begin() + at_, '\n');
		size_t start = at_ ? text_.rfind('\n', at_ - 1) : std::string::npos;
		size_t column = at_ - (start == std::string::npos ? 0 : start + 1) + 1;

		throw Error("line " + std::to_string(line) + ", column " + std::to_string(column) +
			    ": " + what);
	}

	void space()
	{
		while (at_ < text_.size() && strchr(" \t\r\n", text_[at_]) && text_[at_])
			at_++;
	}

	bool next(char c)
	{
		space();
		if (at_ >= text_.size() || text_[at_] != c)
			return false;
		at_++;
		return true;
	}

	void want(char c)
	{
		if (!next(c))
			fail(std::string("expected '") + c + "'");
	}

	bool word(const char *w)
	{
		if (text_.compare(at_, strlen(w), w) != 0)
			return false;
		at_ += strlen(w);
		return true;
	}

	Value value(const std::string &where, int depth)
	{
		Value v;

		v.where_ = where;
		if (depth > kDepth)
			fail("nested too deeply");
		space();
		if (next('{')) {
			v.type_ = Value::Type::object;
			object(v, depth);
		} else if (next('[')) {
			v.type_ = Value::Type::array;
			if (next(']'))
				return v;
			do
				v.items_.push_back(
					value(where + "[" + std::to_string(v.items_.size()) + "]",
					      depth + 1));
			while (next(','));
			want(']');
		} else if (next('"')) {
			v.type_ = Value::Type::string;
			v.text_ = string();
		} else if (word("true")) {
			v.type_ = Value::Type::boolean;
			v.integer_ = 1;
		} else if (word("false")) {
			v.type_ = Value::Type::boolean;
		} else if (!word("null")) {
			number(v);
		}
		return v;
	}

	void object(Value &v, int depth)
	{
		if (next('}'))
			return;
		do {
			want('"');
			std::string key = string();
			want(':');
			if (v.members_.count(key))
				fail("'" + key + "' is there twice");
			v.members_[key] =
				value(v.where_.empty() ? key : v.where_ + "." + key, depth + 1);
		} while (next(','));
		want('}');
	}

	unsigned int hex4()
	{
		unsigned int code = 0;

		for (int i = 0; i < 4; i++, at_++) {
			const char *digits = "0123456789abcdef";
			const char *digit = at_ < text_.size() && text_[at_]
						    ? strchr(digits, text_[at_] | 0x20)
						    : nullptr;
			if (!digit)
				fail("expected four hexadecimal digits");
			code = code << 4 | (unsigned int)(digit - digits);
		}
		return code;
	}

	void append_utf8(std::string &to, unsigned int code)
	{
		if (code < 0x80) {
			to += char(code);
			return;
		}
		if (code < 0x800) {
			to += char(0xc0 | code >> 6);
		} else {
			if (code < 0x10000) {
				to += char(0xe0 | code >> 12);
			} else {
				to += char(0xf0 | code >> 18);
				to += char(0x80 | (code >> 12 & 0x3f));
			}
			to += char(0x80 | (code >> 6 & 0x3f));
		}
		to += char(0x80 | (code & 0x3f));
	}

	/* The rest of a string, its first quote taken. */
	std::string string()
	{
		static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
		std::string s;

		for (;;) {
			if (at_ >= text_.size() || (unsigned char)text_[at_] < 0x20)
				fail("a string without an end");
			char c = text_[at_++];
			if (c == '"')
				return s;
			if (c != '\\') {
				s += c;
				continue;
			}
			c = at_ < text_.size() ? text_[at_++] : 0;
			const char *escape = c ? strchr(escapes, c) : nullptr;
			if (escape) {
				s += meant[escape - escapes];
			} else if (c == 'u') {
				unsigned int code = hex4();
				if (code >= 0xd800 && code < 0xdc00 && word("\\u"))
					code = 0x10000 + ((code & 0x3ff) << 10) + (hex4() & 0x3ff);
				append_utf8(s, code);
			} else {
				fail("unknown escape in a string");
			}
		}
	}

	void number(Value &v)
	{
		size_t end = text_.find_first_not_of("+-0123456789.eE", at_);
		std::string s = text_.substr(at_, end == std::string::npos ? end : end - at_);
		bool whole = s.find_first_of(".eE") == std::string::npos;
		char *rest = nullptr;

		errno = 0;
		if (whole)
			v.integer_ = strtoll(s.c_str(), &rest, 10);
		else
			(void)strtod(s.c_str(), &rest);
		if (s.empty() || *rest || s[0] == '+' || (whole && errno))
			fail("expected a value");
		v.type_ = whole ? Value::Type::integer : Value::Type::real;
		at_ += s.size();
	}

	const std::string &text_;
	size_t at_ = 0;
};

void Value::fail(const std::string &what) const
{
	throw Error((where_.empty() ? "the document" : where_) + ": " + what);
}

bool Value::has(const std::string &key) const
{
	return members_.count(key) != 0;
}

const Value &Value::operator[](const std::string &key) const
{
	if (type_ != Type::object)
		fail("must be an object");
	auto member = members_.find(key);
	if (member == members_.end())
		fail("has no '" + key + "'");
	return member->second;
}

const std::vector<Value> &Value::items() const
{
	if (type_ != Type::array)
		fail("must be a list");
	return items_;
}

const std::string &Value::text() const
{
	if (type_ != Type::string)
		fail("must be a string");
	return text_;
}

int64_t Value::integer(int64_t least, int64_t most) const
{
	if (type_ != Type::integer || integer_ < least || integer_ > most)
		fail("must be an integer from " + std::to_string(least) + " to " +
		     std::to_string(most));
	return integer_;
}

bool Value::boolean() const
{
	if (type_ != Type::boolean)
		fail("must be true or false");
	return integer_ != 0;
}

void Value::only(const std::vector<std::string> &keys) const
{
	if (type_ != Type::object)
		fail("must be an object");
	for (auto &member : members_)
		if (std::find(keys.begin(), keys.end(), member.first) == keys.end())
			fail("has '" + member.first + "', which this version does not know");
}

Value parse(const std::string &text)
{
	return Parser(text).document();
}

std::string quoted(const std::string &text)
{
	std::string s = "\"";

	for (char c : text) {
		if (c == '"' || c == '\\') {
			s += '\\';
			s += c;
		} else if ((unsigned char)c < 0x20) {
			char code[8];
			snprintf(code, sizeof(code), "\\u%04x", c);
			s += code;
		} else {
			s += c;
		}
	}
	return s + "\"";
}

} // namespace json
} // namespace sentinel
