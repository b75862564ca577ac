package corefile

import (
	"fmt"
	"strings"
)

// maxSize bounds a Corefile, in bytes: a ConfigMap holds at most 1 MiB, real ones are below 2 kB.
const maxSize = 256 << 10

// token is one word, and whether it is the last of its line.
type token struct {
	text   string
	line   int
	last   bool
	quoted bool
}

// Error is what is wrong, and where.
type Error struct {
	File string
	Line int
	What string
}

// Error is "file:line: what".
func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.What) }

// lex splits text into words as Caddy does: by white space, with double quotes and # comments.
func lex(file, text string) ([]token, error) {
	if len(text) > maxSize {
		return nil, &Error{file, 1, fmt.Sprintf("%d bytes are more than a Corefile may have (%d)", len(text), maxSize)}
	}
	var out []token
	line, i := 1, 0
	for i < len(text) {
		switch c := text[i]; {
		case c == '\n':
			markLast(out, line)
			line++
			i++
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case c == '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case c == '"':
			word, next, ok := quoted(text, i+1)
			if !ok {
				return nil, &Error{file, line, "a quotation mark is not closed"}
			}
			out = append(out, token{text: word, line: line, quoted: true})
			line += strings.Count(text[i:next], "\n")
			i = next
		default:
			begin := i
			for i < len(text) && !strings.ContainsRune(" \t\r\n", rune(text[i])) {
				i++
			}
			out = append(out, token{text: text[begin:i], line: line})
		}
	}
	markLast(out, line)
	return out, nil
}

func markLast(out []token, line int) {
	if n := len(out); n > 0 && out[n-1].line <= line {
		out[n-1].last = true
	}
}

// quoted reads up to the closing mark; \" stands for a mark.
func quoted(text string, i int) (word string, next int, ok bool) {
	var b strings.Builder
	for ; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == '"':
			b.WriteByte('"')
			i++
		case text[i] == '"':
			return b.String(), i + 1, true
		default:
			b.WriteByte(text[i])
		}
	}
	return "", 0, false
}
