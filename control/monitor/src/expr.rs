//! Expressions in commands: numbers, characters, `$register`, `+ - * / % & | ^ ~` and parentheses.

/// How deep parentheses and signs may nest.
const MAX_DEPTH: usize = 64;

/// A reader of the rest of a command line.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a str,
    registers: &'a dyn Fn(&str) -> Option<u64>,
}

type Value = Result<i64, String>;

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, registers: &'a dyn Fn(&str) -> Option<u64>) -> Self {
        Self { rest: text, registers }
    }

    pub(crate) fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, any: &[char]) -> Option<char> {
        self.skip_space();
        let found = self.rest.chars().next().filter(|c| any.contains(c))?;
        self.rest = &self.rest[found.len_utf8()..];
        Some(found)
    }

    /// Reads one expression; what follows it stays.
    pub(crate) fn expression(&mut self) -> Value {
        self.sum(0)
    }

    fn sum(&mut self, depth: usize) -> Value {
        let mut value = self.logic(depth)?;
        while let Some(op) = self.take(&['+', '-']) {
            let right = self.logic(depth)?;
            value = if op == '+' { value.wrapping_add(right) } else { value.wrapping_sub(right) };
        }
        Ok(value)
    }

    fn logic(&mut self, depth: usize) -> Value {
        let mut value = self.product(depth)?;
        while let Some(op) = self.take(&['&', '|', '^']) {
            let right = self.product(depth)?;
            value = match op {
                '&' => value & right,
                '|' => value | right,
                _ => value ^ right,
            };
        }
        Ok(value)
    }

    fn product(&mut self, depth: usize) -> Value {
        let mut value = self.unary(depth)?;
        while let Some(op) = self.take(&['*', '/', '%']) {
            let right = self.unary(depth)?;
            if op != '*' && right == 0 {
                return Err("division by zero".to_owned());
            }
            value = match op {
                '*' => value.wrapping_mul(right),
                '/' => value.wrapping_div(right),
                _ => value.wrapping_rem(right),
            };
        }
        Ok(value)
    }

    fn unary(&mut self, depth: usize) -> Value {
        if depth > MAX_DEPTH {
            return Err("expression too deep".to_owned());
        }
        if let Some(op) = self.take(&['+', '-', '~', '(', '\'', '$']) {
            return match op {
                '+' => self.unary(depth + 1),
                '-' => Ok(self.unary(depth + 1)?.wrapping_neg()),
                '~' => Ok(!self.unary(depth + 1)?),
                '(' => {
                    let value = self.sum(depth + 1)?;
                    self.take(&[')']).ok_or("')' expected")?;
                    Ok(value)
                }
                '\'' => {
                    let c = self.rest.chars().next().ok_or("character constant expected")?;
                    self.rest = &self.rest[c.len_utf8()..];
                    let closed = self.rest.strip_prefix('\'').ok_or("missing terminating ' character")?;
                    self.rest = closed;
                    Ok(i64::from(u32::from(c)))
                }
                _ => self.register(),
            };
        }
        self.number()
    }

    fn register(&mut self) -> Value {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let value = (self.registers)(&name.to_ascii_lowercase()).ok_or("unknown register")?;
        Ok(value.cast_signed())
    }

    fn number(&mut self) -> Value {
        let Some(first) = self.rest.chars().next() else {
            return Err("unexpected end of expression".to_owned());
        };
        if !first.is_ascii_digit() {
            return Err(format!("invalid char '{first}' in expression"));
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let (digits, radix) = if let Some(hex) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            (hex, 16)
        } else if word.len() > 1 && word.starts_with('0') {
            (&word[1..], 8)
        } else {
            (word, 10)
        };
        if let Some(bad) = digits.chars().find(|c| !c.is_digit(radix)) {
            return Err(format!("invalid char '{bad}' in expression"));
        }
        let value = u64::from_str_radix(digits, radix).map_err(|_| "number too large")?;
        self.rest = rest;
        Ok(value.cast_signed())
    }
}
