#include "base/json_text.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace taskwal {
namespace {

using namespace std::string_view_literals;

// Well-formed and ill-formed sequences of table 3-7 of the Unicode standard, at their bounds.
const std::vector<std::string_view> kGoodUtf8 = {
    "\x7f",         "\xc2\x80",     "\xdf\xbf",         "\xe0\xa0\x80",     "\xe1\x80\x80",
    "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",     "\xf0\x90\x80\x80", "\xf1\x80\x80\x80",
    "\xf4\x8f\xbf\xbf"};
const std::vector<std::string_view> kBadUtf8 = {
    "\x80",         "\xbf",         "\xc0\x80",     "\xc1\xbf",         "\xc2",
    "\xc2\x41",     "\xe0\x9f\xbf", "\xe0\xa0",     "\xe1\x80\x41",     "\xed\xa0\x80",
    "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf0\x90\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
    "\xff",         "\xfe"};

TEST(IsCleanText, KnowsUtf8AtEveryPosition) {
  for (std::size_t before = 0; before < 18; ++before) {
    const std::string pad(before, 'a');
    for (const auto good : kGoodUtf8) EXPECT_TRUE(IsCleanText(pad + std::string(good) + "zz"));
    for (const auto bad : kBadUtf8) {
      EXPECT_FALSE(IsCleanText(pad + std::string(bad))) << before;
      EXPECT_FALSE(IsCleanText(pad + std::string(bad) + "aaaaaaaaaa")) << before;
    }
  }
}

TEST(IsCleanText, RefusesNulAtEveryPosition) {
  for (std::size_t at = 0; at < 20; ++at) {
    std::string text(20, 'a');
    text[at] = '\0';
    EXPECT_FALSE(IsCleanText(text)) << at;
  }
  EXPECT_TRUE(IsCleanText(""));
  EXPECT_TRUE(IsCleanText("\x01\x1f\n"));
}

TEST(IsJson, TakesEveryKindOfValue) {
  for (const auto text :
       {"null"sv, "true"sv, "false"sv, "0"sv, "-0"sv, "12"sv, "-3.25e+10"sv, "1E5"sv, "1e-5"sv,
        "\"\""sv, "\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\""sv, "[]"sv, "{}"sv,
        " [ 1 , [ ] , { } ] "sv, "{\"a\":{\"b\":[1,2,{\"c\":null}]},\"a\":2}"sv,
        "\t\r\n {\"x\" : \"y\"} \n"sv, "\"\\u0000\""sv, "\"\x7f\""sv,
        "123456789012345678901234567890.5e999"sv}) {
    EXPECT_TRUE(IsJson(text)) << text;
  }
}

TEST(IsJson, RefusesWhatIsNone) {
  for (const auto text :
       {""sv, " "sv, "nul"sv, "nulll"sv, "True"sv, "01"sv, "-"sv, "+1"sv, ".5"sv, "1."sv, "1e"sv,
        "1e+"sv, "0x1"sv, "NaN"sv, "'a'"sv, "\""sv, "\"abc"sv, "\"\\\""sv, "\"\\x\""sv,
        "\"\\u12g4\""sv, "\"\\u12"sv, "\"\\u+123\""sv, "\"\n\""sv, "\"\0\""sv, "["sv, "]"sv, "[1"sv,
        "[1,]"sv, "[,1]"sv, "[1 2]"sv, "{"sv, "{\"a\"}"sv, "{\"a\":}"sv, "{\"a\":1,}"sv, "{a:1}"sv,
        "{1:1}"sv, "{\"a\" 1}"sv, "[1}"sv, "{\"a\":1]"sv, "1 2"sv, "{} x"sv, "\0"sv, "null\0"sv,
        "\xef\xbb\xbf{}"sv, "// c\n1"sv}) {
    EXPECT_FALSE(IsJson(text)) << text;
  }
}

TEST(IsJson, RefusesHalfASurrogatePairAnywhere) {
  for (const char* half :
       {R"("\ud800")", R"("\uDBFF")", R"("\udc00")", R"("\uDFFF")", R"("a\ud800b")",
        R"("\ud800\u0041")", R"("\ud800\ud800")", R"("\ud800\ud800\udc00")", R"("\udc00\ud800")",
        R"("\ud800\udc00\udc00")", R"("\ud800\n\udc00")", R"("\ud800\\udc00")"}) {
    const std::string text(half);
    EXPECT_FALSE(IsJson(text)) << text;
    EXPECT_FALSE(IsJson("[1, {\"a\": " + text + "}, 2]")) << text;
    EXPECT_FALSE(IsJson("{" + text + ": 1}")) << text;
  }
  for (const char* whole :
       {R"("\ud800\udc00")", R"("\uDBFF\uDFFF")", R"("\ud83d\ude00\ud83d\ude00")",
        R"("\ud7ff\ue000")", R"("\\ud800")", R"({"\ud83d\ude00":"\ud83d\ude00"})"}) {
    EXPECT_TRUE(IsJson(whole)) << whole;
  }
}

TEST(IsJson, ChecksUtf8InStringsAtEveryPosition) {
  for (std::size_t before = 0; before < 18; ++before) {
    const std::string start = "\"" + std::string(before, 'a');
    for (const auto good : kGoodUtf8) {
      EXPECT_TRUE(IsJson(start + std::string(good) + "aaaaaaaaaa\""));
    }
    for (const auto bad : kBadUtf8) {
      EXPECT_FALSE(IsJson(start + std::string(bad) + "aaaaaaaaaa\"")) << before;
    }
    for (const char control : {'\0', '\x1f', '\n'}) {
      EXPECT_FALSE(IsJson(start + control + "aaaaaaaaaa\"")) << before;
    }
  }
}

TEST(IsJson, TakesAnyDepth) {
  for (const std::size_t depth : {1u, 63u, 64u, 65u, 128u, 129u, 513u, 1'000'000u}) {
    std::string open, close;
    for (std::size_t i = 0; i < depth; ++i) {
      const bool is_object = i % 3 == 1;
      open += is_object ? "{\"k\":" : "[";
      close.insert(0, is_object ? "}" : "]");
      if (depth > 1000) break;  // the same all the way is enough
    }
    if (depth > 1000) {
      open.assign(depth, '[');
      close.assign(depth, ']');
    }
    EXPECT_TRUE(IsJson(open + "1" + close)) << depth;
    EXPECT_FALSE(IsJson(open + close.substr(1))) << depth;
    EXPECT_FALSE(IsJson(open + "1" + close + close.back())) << depth;
    if (depth > 1 && depth < 1000) {  // the wrong end somewhere inside
      std::string wrong = close;
      wrong[depth / 2] = wrong[depth / 2] == ']' ? '}' : ']';
      EXPECT_FALSE(IsJson(open + "1" + wrong)) << depth;
    }
  }
  EXPECT_FALSE(IsJson(std::string(10'000'000, '[')));
}

TEST(JsonCursor, WalksAnObject) {
  JsonCursor c(R"( {"op" : "save", "n": -42, "flag": true, "none": null,
                    "raw": { "b" : [1, 2 ] , "a":1}, "k\u0065y": false} )");
  ASSERT_TRUE(c.EnterObject());
  EXPECT_EQ(c.key(), "op");
  EXPECT_EQ(c.ReadString(), "save");
  ASSERT_TRUE(c.NextMember());
  EXPECT_EQ(c.ReadInteger(), -42);
  ASSERT_TRUE(c.NextMember());
  EXPECT_EQ(c.ReadBool(), true);
  ASSERT_TRUE(c.NextMember());
  EXPECT_EQ(c.Peek(), 'n');
  EXPECT_TRUE(c.ReadNull());
  ASSERT_TRUE(c.NextMember());
  EXPECT_FALSE(c.ReadNull());
  EXPECT_EQ(c.ReadRaw(), R"({ "b" : [1, 2 ] , "a":1})");
  ASSERT_TRUE(c.NextMember());
  EXPECT_EQ(c.key(), "key");
  EXPECT_EQ(c.ReadBool(), false);
  EXPECT_FALSE(c.NextMember());
  EXPECT_TRUE(c.AtEnd());
  EXPECT_FALSE(c.failed());
}

TEST(JsonCursor, WalksAnArray) {
  JsonCursor c("[1, [], 3]");
  std::vector<std::string> elements;
  for (bool more = c.EnterArray(); more; more = c.NextElement()) {
    elements.emplace_back(c.ReadRaw().value_or("?"));
  }
  EXPECT_EQ(elements, (std::vector<std::string>{"1", "[]", "3"}));
  EXPECT_TRUE(c.AtEnd());
}

TEST(JsonCursor, EmptyContainersHaveNoFirstItem) {
  JsonCursor object("{ }");
  EXPECT_FALSE(object.EnterObject());
  EXPECT_TRUE(object.AtEnd());
  JsonCursor array("[]");
  EXPECT_FALSE(array.EnterArray());
  EXPECT_TRUE(array.AtEnd());
}

TEST(JsonCursor, DecodesEscapes) {
  JsonCursor c(R"("\"\\\/\b\f\n\r\t \u0041\u00e9\u20ac\ud83d\uDE00 é")");
  EXPECT_EQ(c.ReadString(), "\"\\/\b\f\n\r\t A\u00e9\u20ac\U0001F600 é");
  EXPECT_TRUE(c.AtEnd());
}

TEST(JsonCursor, RefusesNulAndLoneSurrogatesInStringsOnly) {
  for (const char* text : {R"("\u0000")", R"("a\ud800")", R"("\ud800x")", R"("\ud800\u0041")",
                           R"("\udc00")", R"("\ud800\ud800")", R"("\udc00\ud800")"}) {
    JsonCursor string(text);
    EXPECT_FALSE(string.ReadString()) << text;
    EXPECT_TRUE(string.failed());
    JsonCursor raw(text);
    EXPECT_EQ(raw.ReadRaw(), text);
  }
}

TEST(JsonCursor, RefusesNulInAKey) {
  JsonCursor c(R"({"a\u0000b":1})");
  EXPECT_FALSE(c.EnterObject());
  EXPECT_TRUE(c.failed());
}

TEST(JsonCursor, IntegersHave64BitsAndNoFraction) {
  const auto read = [](std::string_view text) { return JsonCursor(text).ReadInteger(); };
  EXPECT_EQ(read("9223372036854775807"), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(read("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(read("-0"), 0);
  for (const char* text : {"9223372036854775808", "-9223372036854775809", "1.0", "1e3", "01",
                           "\"1\"", "", "-", "true"}) {
    EXPECT_FALSE(read(text)) << text;
  }
}

TEST(JsonCursor, AWrongTypeIsAnErrorThatStays) {
  JsonCursor c(R"({"a": 1, "b": "x"})");
  ASSERT_TRUE(c.EnterObject());
  EXPECT_FALSE(c.ReadString());
  EXPECT_EQ(c.error(), "expected a string at byte 6");
  EXPECT_FALSE(c.NextMember());
  EXPECT_FALSE(c.ReadInteger());
  EXPECT_FALSE(c.ReadBool());
  EXPECT_FALSE(c.ReadNull());
  EXPECT_FALSE(c.ReadRaw());
  EXPECT_FALSE(c.EnterArray());
  EXPECT_FALSE(c.EnterObject());
  EXPECT_FALSE(c.NextElement());
  EXPECT_EQ(c.Peek(), '\0');
  EXPECT_FALSE(c.AtEnd());
  EXPECT_EQ(c.error(), "expected a string at byte 6");
}

TEST(JsonCursor, SaysWhatFollowsTheValue) {
  JsonCursor c("{} {}");
  EXPECT_FALSE(c.EnterObject());
  EXPECT_FALSE(c.AtEnd());
  EXPECT_EQ(c.error(), "text after the value at byte 3");
}

TEST(JsonCursor, ErrorsNameThePlace) {
  const auto error_of = [](std::string_view text) {
    JsonCursor c(text);
    EXPECT_FALSE(c.ReadRaw()) << text;
    return c.error();
  };
  EXPECT_EQ(error_of("[1 2]"), "expected ',' or ']' at byte 3");
  EXPECT_EQ(error_of(R"({"a":tru})"), "expected a value at byte 5");
  EXPECT_EQ(error_of(R"({"a",1})"), "expected ':' at byte 4");
  EXPECT_EQ(error_of("\"\xff\""), "invalid UTF-8 at byte 1");
}

// Every prefix of a text must fail, whatever it was cut in, and must not be read past.
TEST(JsonCursor, NoPrefixIsAWholeObject) {
  const std::string text = R"({"a":[1.5e3,"x\u00e9\ud83d\ude00é"],"b":{"c":null,"d":true}})";
  ASSERT_TRUE(IsJson(text));
  for (std::size_t size = 0; size < text.size(); ++size) {
    const std::vector<char> exact(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(IsJson({exact.data(), exact.size()})) << size;
  }
}

TEST(JsonQuote, ReadsBackAsTheSameText) {
  std::string all;
  for (char c = 1; c < 127; ++c) all += c;
  all += "é€\U0001F600\x7f";
  const std::string quoted = JsonQuote(all);
  EXPECT_TRUE(IsJson(quoted));
  EXPECT_EQ(JsonCursor(quoted).ReadString(), all);
  EXPECT_EQ(JsonQuote("a\nb\t\"\\"), R"("a\nb\t\"\\")");
}

TEST(JsonQuote, IsJsonWhateverTheTextIs) {
  EXPECT_EQ(JsonQuote("a\xff\xe2\x82z"), "\"a\uFFFD\uFFFD\uFFFDz\"");
  EXPECT_TRUE(IsJson(JsonQuote("\0x\xc0"sv)));
}

}  // namespace
}  // namespace taskwal
