#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare the template interpreter with Python's jinja2, set up as chat templates expect it.

usage: check_templates.py RENDER DIR            every *.jinja of DIR with many conversations
       check_templates.py RENDER --random N [SEED]  N random templates
       check_templates.py RENDER --golden DIR       write DIR/golden.json: what jinja2 makes of DIR/*.jinja

RENDER is the program tests/render_template.c. Needs jinja2 (PyPI). Prints each difference; exit status 1 if there is one.
"""
import datetime
import functools
import json
import pathlib
import random
import subprocess
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = datetime.datetime(2025, 7, 4, 9, 8, 7)


class Generation(jinja2.ext.Extension):
    """{% generation %} marks what the model wrote; here the text passes through."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_through"), [], [], body).set_lineno(line)

    def _through(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


ENVIRONMENT = environment()
compiled = functools.lru_cache(4)(ENVIRONMENT.from_string)


def reference(template, context):
    """What jinja2 makes of it: ("text", TEXT) or ("error", MESSAGE)."""
    try:
        return "text", compiled(template).render(**context)
    except RecursionError:
        return "error", "recursion"
    except Exception as error:  # pylint: disable=broad-except  # whatever Python raises is an error of the template
        return "error", f"{type(error).__name__}: {error}"


class Ours:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, template, context):
        now = [NOW.year, NOW.month, NOW.day, NOW.hour, NOW.minute, NOW.second]
        request = json.dumps({"template": template, "context": context, "now": now})
        self.process.stdin.write(request.encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the program died on {request}")
        reply = json.loads(line)
        return ("text", reply["text"]) if "text" in reply else ("error", reply["error"])


def same(ours, theirs):
    if ours[0] != theirs[0]:
        return False
    if ours[0] == "text":
        return ours[1] == theirs[1]
    # A template's own message must arrive; Python's wording of its errors need not.
    kind, _, message = theirs[1].partition(": ")
    return kind != "TemplateError" or " ".join(message.split())[:200] in " ".join(ours[1].split()).replace("?", "?")


# ---- conversations ----

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a place <now> & \"later\"",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "Name of the city"},
            "days": {"type": "integer", "default": 3, "description": " how many "},
            "units": {"type": "string", "enum": ["metric", "imperial"], "default": "metric"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "where": {"type": ["string", "null"], "nullable": True},
            "box": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
                    "required": ["lat"]},
            "any": {"oneOf": [{"type": "string"}, {"type": "number", "default": 1.5}]}},
            "required": ["city"]},
        "return": {"type": "string"}}},
    {"type": "function", "function": {
        "name": "später", "description": "Ünïcode — ✓ 日本", "parameters": {"type": "object", "properties": {}}}},
]


def call(arguments, name="get_weather", identifier="abcdef123"):
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def conversations():
    user = {"role": "user", "content": "Hello, how are you?"}
    system = {"role": "system", "content": "  You are terse.\n"}
    reply = {"role": "assistant", "content": "Fine, thanks.\nAnd you?"}
    yield "user", [user]
    yield "system+user", [system, user]
    yield "multi", [user, reply, {"role": "user", "content": " And now?\n\n"}]
    yield "system+multi", [system, user, reply, user, reply, user]
    yield "ends with assistant", [user, reply]
    yield "empty content", [{"role": "user", "content": ""}]
    yield "empty system", [{"role": "system", "content": ""}, user]
    yield "unicode", [{"role": "user", "content": "Grüße 日本語 🎉 \u00a0\u2028x\tTab \"q\" 'a' \\ </s> <|im_end|>"}]
    yield "parts", [{"role": "user", "content": [{"type": "text", "text": "Part one."}, {"type": "text", "text": " Two."}]}]
    yield "image", [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    yield "think in content", [user, {"role": "assistant", "content": "<think>\nHm, well.\n</think>\n\nYes."}, user]
    yield "reasoning", [user, {"role": "assistant", "content": "Yes.", "reasoning_content": "\nHm.\n", "thinking": "Hm."}, user]
    yield "last reasoning", [user, {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm.", "thinking": "Hm."}]
    arguments = {"city": "Paris & \"Lyon\"", "days": 2, "x": 1.5, "ok": True, "none": None, "list": [1, "a", {}], "d": {"k": "v"}}
    wants = {"role": "assistant", "content": "", "tool_calls": [call(arguments)]}
    result = {"role": "tool", "name": "get_weather", "tool_call_id": "abcdef123", "content": "{\"temp\": 21.5}"}
    yield "tool call", [user, wants, result]
    yield "tool call, then text", [system, user, wants, result, reply, user]
    yield "tool call with text arguments", [user, {**wants, "tool_calls": [call("{\"city\": \"Rome\"}")]}, result]
    yield "tool call, null content", [user, {**wants, "content": None}, result]
    yield "two calls", [user, {**wants, "content": "Let me see.", "tool_calls": [call(arguments), call({}, "später")]},
                        result, {**result, "content": "second"}]
    yield "tool result as a list", [user, wants, {**result, "content": [{"output": "a"}, {"output": "b"}]}]
    yield "only system", [system]
    yield "system late", [user, system, user]
    yield "two users", [user, user]
    yield "developer", [{"role": "developer", "content": "Do."}, user]
    yield "unknown role", [{"role": "critic", "content": "x"}]
    yield "nothing", []
    yield "no content", [{"role": "user"}]
    yield "/no_think", [{"role": "system", "content": "Be brief. /no_think"}, {"role": "user", "content": "Hi /no_think"}]
    yield "system_override", [{"role": "system", "content": "/system_override Alone."}, user]


def variants():
    for prompt in (True, False):
        for extra in ({}, {"enable_thinking": False}, {"enable_thinking": True}, {"tools": TOOLS}, {"tools": None}, {"tools": []},
                      {"tools": TOOLS, "enable_thinking": False, "builtin_tools": ["browser", "python"],
                       "tools_in_user_message": False, "thinking": True},
                      {"documents": [{"doc_id": 1, "text": "A text.", "title": "T"}], "controls": {"citations": True, "length": "x"}},
                      {"xml_tools": TOOLS, "python_tools": TOOLS, "custom_instructions": "Do it.", "reasoning_effort": "high"},
                      {"date_string": "1 Jan 2025", "keep_past_thinking": True, "thinking": True, "clear_thinking": False}):
            yield {"add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>", **extra}


def check_directory(ours, directory):
    bad = total = 0
    for path in sorted(pathlib.Path(directory).glob("*.jinja")):
        template, wrong, errors = path.read_text(encoding="utf-8"), [], 0
        count = 0
        for name, messages in conversations():
            for extra in variants():
                context = {"messages": messages, **extra}
                theirs, got = reference(template, context), ours(template, context)
                count += 1
                errors += theirs[0] == "error"
                if not same(got, theirs):
                    wrong.append((name, extra, got, theirs))
        print(f"{path.name}: {count} conversations, {errors} refused by the template, {len(wrong)} differ")
        for name, extra, got, theirs in wrong[:3]:
            print(f"  {name}, {({k: v if k != 'tools' else '...' for k, v in extra.items()})}\n    ours   {got}\n    theirs {theirs}")
        bad += len(wrong)
        total += count
    print(f"{total} renderings, {bad} differ")
    return bad


def write_golden(ours, directory):
    """The small templates of the tests with a few contexts, each with the text or the refusal of jinja2."""
    by_name = dict(conversations())
    plain = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
    cases = [(name, {"messages": by_name[name], **plain}) for name in by_name]
    cases += [("multi, no prompt", {"messages": by_name["multi"], **plain, "add_generation_prompt": False}),
              ("no thinking", {"messages": by_name["multi"], **plain, "enable_thinking": False}),
              ("tools", {"messages": by_name["tool call, then text"], **plain, "tools": TOOLS})]
    golden, bad = [], 0
    for path in sorted(pathlib.Path(directory).glob("*.jinja")):
        template = path.read_bytes().decode()
        for name, context in cases if path.stem == "chat" else [("three messages", {"messages": CONTEXT["m"]})]:
            theirs = reference(template, context)
            got = ours(template, context)
            bad += not same(got, theirs)
            if not same(got, theirs):
                print(f"{path.name}, {name}\n  ours   {got}\n  theirs {theirs}")
            golden.append({"template": path.name, "name": name, "context": context, theirs[0]: theirs[1].split("Error: ")[-1]})
    text = json.dumps(golden, indent=1, ensure_ascii=False)
    (pathlib.Path(directory) / "golden.json").write_text(text + "\n", encoding="utf-8")
    return bad


# ---- random templates ----

class Maker:
    """Random templates that mostly make sense. Only what is deterministic in Python: no addresses, no sets."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def pick(self, *choices):
        return self.r.choice(choices)

    def atom(self):
        return self.pick("1", "0", "-3", "7", "2.5", "0.1", "1e3", "10", "'abc'", "'a b  c'", "''", "' x '", "'Ünï €'", "\"it's\"",
                         "true", "false", "none", "s", "t", "n", "f", "l", "d", "m", "e", "nothing", "m[0]", "m[-1].role", "d.a",
                         "d['b']", "d.nothing", "m[0].content", "l[1]", "s[0]", "s[1:]", "l[::-1]", "s[::2]", "l[:-1]", "k", "z",
                         "i", "'\\n a\\t'", "'a,b,c'", "range(4)", "ns.x", "'<a&b>'", "u", "'x=%s'", "'{}'", "d.items()")

    def expr(self, depth):
        if depth <= 0:
            return self.atom()
        e = lambda: self.expr(depth - 1 - self.r.randrange(2))  # noqa: E731
        kind = self.r.randrange(20)
        if kind < 4:
            return self.atom()
        if kind < 7:
            return f"{e()} {self.pick('+', '+', '-', '*', '/', '//', '%', '~', '~')} {e()}"
        if kind < 9:
            return f"{e()} {self.pick('==', '!=', '<', '>', '<=', '>=', 'in', 'not in')} {e()}"
        if kind < 10:
            return f"{e()} {self.pick('and', 'or')} {e()}"
        if kind < 11:
            return self.pick(f"not {e()}", f"-{e()}", f"({e()})", f"({e()} if {e()} else {e()})", f"({e()} if {e()})")
        if kind < 12:
            return self.pick(f"[{e()}, {e()}]", f"({e()}, {e()})", f"({e()},)", f"{{'k': {e()}, 'j': {e()}}}", "[]", "{}", "()")
        if kind < 13:
            return self.pick(f"({e()})[{e()}]", f"({e()})[{e()}:{e()}]", f"({e()})[::{self.pick('-1', '2', '-2')}]",
                             f"({e()}).{self.pick('a', 'role', 'x', 'items', 'b', 'upper')}")
        if kind < 15:
            test = self.pick("defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "integer",
                             "boolean", "true", "false", "float", "odd", "even", "lower", "upper", "callable", f"eq({e()})",
                             f"in({e()})", f"sameas(true)", "divisibleby 3", f"gt({e()})", "equalto 'abc'", "escaped", "filter")
            return f"({e()}) is {self.pick('', 'not ')}{test}"
        if kind < 17:
            method = self.pick("strip()", "upper()", "lower()", "title()", "capitalize()", "split()", "split(',')", "split(' ')",
                               "split('b', 1)", "rsplit(' ', 1)", "startswith('a')", "endswith('c')", "replace('a', 'bb')",
                               "replace('', '-')", "find('b')", "rfind('b')", "count('a')", "lstrip(' a')", "rstrip('c ')",
                               "isdigit()", "isalpha()", "zfill(5)", "center(9)", "ljust(6, '.')", "rjust(6)", "partition('b')",
                               "rpartition(' ')", "splitlines()", "items()", "keys()", "values()", "get('a')", "get('q', 1)",
                               "index('b')", "join(['x', 'y'])", "removeprefix('a')", "swapcase()", "format(1, 2)", "copy()",
                               f"split({e()})", f"startswith({e()})", f"get({e()})", "append(1)", "isupper()", "rsplit()",
                               "rsplit('b')", "encode", "isspace()", "isalnum()", "update({})", "removesuffix('c')", "strip('ac')",
                               f"replace({e()}, {e()})", "split(None, 1)", "rsplit(None, 1)", "count('')", "splitlines(true)")
            return f"({e()}).{method}"
        name = self.pick(
            "trim", "upper", "lower", "title", "capitalize", "length", "count", "list", "first", "last", "join(', ')", "join",
            "replace('a', 'b')", "default('dd')", "d('x', true)", "tojson", "tojson(indent=2)", "tojson(ensure_ascii=true)",
            "string", "int", "float", "abs", "round", "round(1)", "round(1, 'floor')", "round(method='ceil')", "sort", "sort(reverse=true)",
            "reverse", "reverse|list", "unique|list", "sum", "min", "max", "items|list", "dictsort", "dictsort(by='value')",
            "map('upper')|list", "map(attribute='role')|list", "map('length')|list", "select|list", "reject|list",
            "select('string')|list", "reject('none')|list", "selectattr('role')|list", "selectattr('role', 'equalto', 'user')|list",
            "rejectattr('role', 'equalto', 'user')|map(attribute='content')|join('|')", "indent", "indent(2, true)",
            "indent(width='> ', blank=true)", "safe", "escape", "e", "batch(2)|list", "slice(2)|list", "wordcount", "center(12)",
            "truncate(4, true)", "truncate(5)", "attr('upper')", "join(', ', attribute='role')", "map('trim')|join('/')",
            "map('default', 'q')|list", "tojson(separators=(',', ':'))", "tojson(sort_keys=true)", "format(1)", "xyz", "int(5)",
            "int(base=16)", "float(1.5)", "trim('a')", "trim('xs ')", "groupby('role')|list", "map('int')|sum", "sort(attribute='role')|list",
            "min(attribute='role')", "first|upper", "last|string", "select('gt', 1)|list", "list|length", "string|length", "map('tojson')|list")
        return f"({e()})|{name}"

    def dash(self):
        return self.pick("", "", "-", "-") if self.r.random() < 0.9 else "+"

    def tag(self, text):
        return f"{{%{self.dash()} {text} {self.dash()}%}}"

    def text(self):
        return self.pick("", " ", "\n", "  \n", "x", " y\n", "\n\n  ", "z ", "\t", "a\n  b\n", "}", "{", "# ")

    def block(self, depth, loop=False):
        return "".join(self.statement(depth, loop) for _ in range(self.r.randrange(1, 4)))

    def statement(self, depth, loop):
        kind = self.r.randrange(26) if depth > 0 else self.r.randrange(9)
        expression = lambda: self.expr(self.r.randrange(4))  # noqa: E731
        b = lambda inner=loop: self.text() + self.block(depth - 1, inner) + self.text()  # noqa: E731
        if kind < 3:
            return self.text()
        if kind < 8:
            return f"{{{{{self.pick('', '-')} {expression()} {self.pick('', '-')}}}}}"
        if kind < 9:
            return f"{{#{self.dash()} note {self.dash()}#}}"
        if kind < 12:
            return (self.tag("if " + expression()) + b() + (self.tag("elif " + expression()) + b() if self.r.random() < .3 else "") +
                    (self.tag("else") + b() if self.r.random() < .5 else "") + self.tag("endif"))
        if kind < 17:
            head = self.pick("i in l", "i in range(3)", "i in m", "k, z in d.items()", "k, z in d|items", "k in d", "i in s",
                             "i in nothing", "i in l if i", "i in m if i.role == 'user'", "i in " + expression(),
                             "i in m[::-1]", "i in range(5) if i is odd", "i in e", "k, z in d|dictsort",
                             "i in range(9) if i > ns.x")
            inside = self.pick("", "{{ loop.index }}", "{{ loop.index0 }}{{ loop.first }}", "{{ loop.last }}", "{{ loop.length }}",
                               "{{ loop.previtem }}", "{{ loop.nextitem }}", "{{ loop.revindex }}", "{{ loop.cycle('a', 'b') }}",
                               "{% if loop.index > 2 %}{% break %}{% endif %}", "{% if loop.first %}{% continue %}{% endif %}",
                               "{{ i }}", "{{ i }},{{ k }}={{ z }};", "{% set ns.x = loop.index %}", "{% set v = i %}{{ v }}",
                               "{{ loop.changed(i) }}", "{% set f = f ~ 'q' %}{{ f }}")
            return (self.tag("for " + head) + inside + b(True) + (self.tag("else") + b() if self.r.random() < .3 else "") +
                    self.tag("endfor"))
        if kind < 20:
            return self.tag(f"set {self.pick('v', 'w', 'ns.x', 'ns.y', 'v, w', 'q')} = {expression()}")
        if kind < 21:
            return self.tag("set v" + self.pick("", " | upper", " | trim | replace('a', 'b')")) + b(False) + self.tag("endset")
        if kind < 22:
            return self.tag("filter " + self.pick("upper", "trim", "replace('a', 'q')", "indent(2)|trim")) + b(False) + self.tag("endfilter")
        if kind < 23:
            name = self.pick("mac", "other")
            return (self.tag(f"macro {name}(a, b={expression()}, c='q')") + "{{ a }}/{{ b }}/{{ c }}" + b(False) + self.tag("endmacro") +
                    f"{{{{ {name}({expression()}, c={expression()}) }}}}")
        if kind < 24:
            return self.tag(f"with p = {expression()}") + "{{ p }}" + b() + self.tag("endwith")
        if kind < 25:
            return (self.tag("macro wrap(a)") + "[{{ caller(a) }}]" + self.tag("endmacro") + self.tag(f"call(x) wrap({expression()})") +
                    "{{ x }}" + b(False) + self.tag("endcall"))
        return "{% raw %}" + self.pick("{{ x }}", " {% if %} ", "text") + "{% endraw %}"

    def template(self):
        head = self.pick("{% set ns = namespace(x=1) %}", "{% set ns = namespace(x=0, y='a') -%}\n")
        return head + self.text() + self.block(3) + self.text()


CONTEXT = {
    "s": "Hello World", "t": "a b  c\nabc", "n": 42, "f": 2.5, "l": [3, 1, 2], "e": [], "u": "Ünï ß 日本 🎉", "k": "key",
    "d": {"b": "two", "a": 1, "items": [1, 2], "z": None, "f": 0.5},
    "m": [{"role": "system", "content": "Be."}, {"role": "user", "content": " hi "}, {"role": "assistant", "content": None}],
}
# What is left out on purpose: addresses in texts, generators' names, integers over 64 bits, Markup's formatting.
SKIP = (" at 0x", "<generator", "object at", "<bound", "<built-in", "<function", "Markup(", "<Macro", "reversed", "list_iterator",
        "<Loop", "_GroupTuple", "itertools", "groupby(", "<map", "iterator")


def check_random(ours, count, seed):
    bad = texts = skipped = 0
    for i in range(count):
        maker = Maker(seed * 1000003 + i)
        template = maker.template() if i % 2 else "{% set ns = namespace(x=1) %}{{ " + maker.expr(4) + " }}"
        theirs = reference(template, CONTEXT)
        if any(word in theirs[1] for word in SKIP):
            skipped += 1
            continue
        got = ours(template, CONTEXT)
        texts += theirs[0] == "text"
        if "slice" in got[1] and got[0] == "error":  # jinja2 folds a wrong slice of constants to an undefined value
            continue
        if not same(got, theirs):
            bad += 1
            if bad <= 15:
                print(f"--- {seed} {i}\n{template!r}\n  ours   {got}\n  theirs {theirs}")
    print(f"{count} random templates: {texts} rendered, {count - texts - skipped} refused, {skipped} skipped, {bad} differ")
    return bad


def main():
    ours = Ours(sys.argv[1])
    if sys.argv[2] == "--random":
        bad = check_random(ours, int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    elif sys.argv[2] == "--golden":
        bad = write_golden(ours, sys.argv[3])
    else:
        bad = check_directory(ours, sys.argv[2])
    sys.exit(bool(bad))


main()
