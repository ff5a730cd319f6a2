//! The language: lines of `name = value`, comments from `#` on, strings in quotes, numbers, lists in brackets.

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number; one written with a minus sign is negative even if it is zero.
    Number {
        /// The number.
        value: i64,
        /// It began with a minus sign.
        negative: bool,
    },
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Value>),
}

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Value,
}

/// Where the text is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What was expected.
    pub expected: &'static str,
}

/// Lists in lists beyond this are refused: nobody writes them, and each takes room on the stack.
const DEPTH: usize = 16;

/// Reads a file. Of a name that is assigned several times the last value counts.
///
/// # Errors
/// The text is not of the language.
pub fn parse(text: &str) -> Result<Vec<Entry>, SyntaxError> {
    let mut parser = Parser { rest: text.as_bytes(), line: 1 };
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        parser.skip(true);
        if parser.rest.is_empty() {
            return Ok(entries);
        }
        if parser.comment() {
            continue;
        }
        let name = parser.name()?;
        parser.skip(false);
        if !parser.eat(b'=') {
            return Err(parser.error("expecting an assignment"));
        }
        let value = parser.value(0)?;
        parser.skip(false);
        parser.comment();
        match parser.peek() {
            None | Some(b'\n' | b'\r') => {}
            Some(b';') => parser.rest = &parser.rest[1..],
            Some(_) => return Err(parser.error("expecting a separator")),
        }
        match entries.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => entry.value = value,
            None => entries.push(Entry { name, value }),
        }
    }
}

struct Parser<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, expected: &'static str) -> SyntaxError {
        SyntaxError { line: self.line, expected }
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// Skips blanks, and ends of lines with `lines`.
    fn skip(&mut self, lines: bool) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' => {}
                b'\n' | b'\r' if lines => self.line += usize::from(byte == b'\n'),
                _ => return,
            }
            self.rest = &self.rest[1..];
        }
    }

    /// Skips a comment up to the end of its line.
    fn comment(&mut self) -> bool {
        let found = self.peek() == Some(b'#');
        if found {
            self.take_while(|byte| !matches!(byte, b'\n' | b'\r'));
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !wanted(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn name(&mut self) -> Result<String, SyntaxError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_alphabetic()) {
            return Err(self.error("expecting a name"));
        }
        Ok(text(self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_')))
    }

    fn value(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.skip(false);
        match self.peek() {
            Some(b'"' | b'\'') => self.string().map(Value::Text),
            Some(b'[') if depth < DEPTH => self.list(depth),
            Some(b'0'..=b'9' | b'-' | b'+') => self.number(),
            _ => Err(self.error("expecting a value")),
        }
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        const TRIPLE: &[u8] = b"\"\"\"";
        if self.rest.len() > 6 && self.rest.starts_with(TRIPLE) {
            self.rest = &self.rest[3..];
            let end = self.rest.windows(3).position(|bytes| bytes == TRIPLE);
            let taken = &self.rest[..end.unwrap_or(self.rest.len())];
            self.line += taken.iter().filter(|&&byte| byte == b'\n').count();
            let Some(end) = end else { return Err(self.error("unterminated string")) };
            self.rest = &self.rest[end + 3..];
            return Ok(text(taken));
        }
        let quote = self.rest[0];
        self.rest = &self.rest[1..];
        let taken = self.take_while(|byte| byte != quote && !matches!(byte, b'\n' | b'\r'));
        if self.eat(quote) { Ok(text(taken)) } else { Err(self.error("unterminated string")) }
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.eat(b'[');
        let mut values = Vec::new();
        self.skip(true);
        while self.peek().is_some_and(|byte| byte != b']') {
            if !values.is_empty() {
                if !self.eat(b',') {
                    return Err(self.error("expecting a separator in list"));
                }
                self.skip(true);
                if self.peek() == Some(b']') {
                    break;
                }
            }
            values.push(self.value(depth + 1)?);
            self.skip(true);
        }
        if self.eat(b']') { Ok(Value::List(values)) } else { Err(self.error("list is not closed with ]")) }
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let negative = self.eat(b'-');
        if !negative {
            self.eat(b'+');
        }
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if digits.is_empty() {
            return Err(self.error("unterminated number"));
        }
        // What is too large stays too large for every key.
        let value = digits
            .iter()
            .fold(0i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
        Ok(Value::Number { value: if negative { -value } else { value }, negative })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: i64) -> Value {
        Value::Number { value, negative: value < 0 }
    }

    #[test]
    fn values_of_all_kinds() {
        let text = "# a comment\n\na = 1 # one\nb=\"x#y\"; c = 'it'\nd = [ \"a\",\n \"b\", ]\ne = -5\nf = \"\"\"x\ny\"\"\"\n";
        let entries = parse(text).expect("entries");
        let value = |name: &str| entries.iter().find(|entry| entry.name == name).map(|entry| &entry.value);
        assert_eq!(value("a"), Some(&number(1)));
        assert_eq!(value("b"), Some(&Value::Text("x#y".into())));
        assert_eq!(value("c"), Some(&Value::Text("it".into())));
        let list = vec![Value::Text("a".into()), Value::Text("b".into())];
        assert_eq!(value("d"), Some(&Value::List(list)));
        assert_eq!(value("e"), Some(&number(-5)));
        assert_eq!(value("f"), Some(&Value::Text("x\ny".into())));
        assert_eq!(parse("a = 1\na = 2\n").expect("entries").len(), 1);
    }

    #[test]
    fn what_is_wrong_and_where() {
        for (text, line, expected) in [
            ("a =", 1, "expecting a value"),
            ("\n\na = x", 3, "expecting a value"),
            ("a = \"b\n", 1, "unterminated string"),
            ("a = -\n", 1, "unterminated number"),
            ("a\n", 1, "expecting an assignment"),
            ("1 = 1\n", 1, "expecting a name"),
            ("a = 1 b = 2\n", 1, "expecting a separator"),
            ("a = [1 2]", 1, "expecting a separator in list"),
            ("a = [1,\n", 2, "expecting a value"),
            ("a = [", 1, "list is not closed with ]"),
        ] {
            assert_eq!(parse(text), Err(SyntaxError { line, expected }), "{text:?}");
        }
        assert!(parse(&("a = ".to_owned() + &"[".repeat(100_000))).is_err());
    }
}
