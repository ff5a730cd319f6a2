//! Data types of text: those of XML Schema that are used, and RELAX NG's own.

use regex_lite::Regex;

/// What text must be.
#[derive(Debug)]
pub(crate) struct Datatype {
    kind: Kind,
    patterns: Vec<Regex>,
    least: Option<i128>,
    most: Option<i128>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    but: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Token,
    Integer { least: i128, most: i128 },
    Double,
    Uri,
    DateTime,
    NcName,
}

fn kind(name: &str) -> Option<Kind> {
    let integer = |least: i128, most: i128| Kind::Integer { least, most };
    Some(match name {
        "string" => Kind::Text,
        "token" | "normalizedString" => Kind::Token,
        "integer" => integer(i128::MIN, i128::MAX),
        "positiveInteger" => integer(1, i128::MAX),
        "nonNegativeInteger" => integer(0, i128::MAX),
        "byte" => integer(i8::MIN.into(), i8::MAX.into()),
        "short" => integer(i16::MIN.into(), i16::MAX.into()),
        "int" => integer(i32::MIN.into(), i32::MAX.into()),
        "long" => integer(i64::MIN.into(), i64::MAX.into()),
        "unsignedByte" => integer(0, u8::MAX.into()),
        "unsignedShort" => integer(0, u16::MAX.into()),
        "unsignedInt" => integer(0, u32::MAX.into()),
        "unsignedLong" => integer(0, u64::MAX.into()),
        "double" | "decimal" => Kind::Double,
        "anyURI" => Kind::Uri,
        "dateTime" => Kind::DateTime,
        "NCName" => Kind::NcName,
        _ => return None,
    })
}

/// A pattern of XML Schema as one of `regex-lite`: it is matched whole, and `^` and `$` are letters.
fn regex(pattern: &str) -> Result<Regex, String> {
    let mut text = String::from("^(?:");
    let (mut escaped, mut class) = (false, false);
    for c in pattern.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '^' | '$' if !class => text.push('\\'),
            _ => {}
        }
        text.push(c);
    }
    text.push_str(")$");
    Regex::new(&text).map_err(|error| format!("the pattern '{pattern}' cannot be had: {error}"))
}

impl Datatype {
    /// The type of that name with these parameters, but for these texts.
    pub(crate) fn new(name: &str, params: &[(&str, &str)], but: Vec<String>) -> Result<Self, String> {
        let kind = kind(name).ok_or_else(|| format!("the data type '{name}' is not known"))?;
        let mut this = Self {
            kind,
            patterns: Vec::new(),
            least: None,
            most: None,
            min_length: None,
            max_length: None,
            but,
        };
        for (name, value) in params {
            let malformed = || format!("malformed value '{value}' of the parameter '{name}'");
            match *name {
                "pattern" => this.patterns.push(regex(value)?),
                "minInclusive" => this.least = Some(value.trim().parse().map_err(|_| malformed())?),
                "maxInclusive" => this.most = Some(value.trim().parse().map_err(|_| malformed())?),
                "minLength" => this.min_length = Some(value.trim().parse().map_err(|_| malformed())?),
                "maxLength" => this.max_length = Some(value.trim().parse().map_err(|_| malformed())?),
                _ => return Err(format!("the parameter '{name}' is not known")),
            }
        }
        Ok(this)
    }

    /// Whether the text is of this type.
    pub(crate) fn allows(&self, text: &str) -> bool {
        let collapsed;
        let text = if self.kind == Kind::Text {
            text
        } else {
            collapsed = collapse(text);
            &collapsed
        };
        let length = text.chars().count();
        let in_length = self.min_length.is_none_or(|min| length >= min)
            && self.max_length.is_none_or(|max| length <= max);
        let excepted = !self.but.is_empty() && self.but.contains(&collapse(text));
        in_length
            && !excepted
            && self.is_of_kind(text)
            && self.patterns.iter().all(|pattern| pattern.is_match(text))
    }

    fn is_of_kind(&self, text: &str) -> bool {
        match self.kind {
            Kind::Text | Kind::Token | Kind::Uri => true,
            Kind::Integer { least, most } => {
                let (least, most) = (self.least.unwrap_or(least), self.most.unwrap_or(most));
                text.parse::<i128>().is_ok_and(|number| (least..=most).contains(&number))
            }
            Kind::Double => {
                let number = text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
                number && text.parse::<f64>().is_ok() || matches!(text, "INF" | "-INF" | "NaN")
            }
            Kind::DateTime => is_date_time(text),
            Kind::NcName => {
                let first = text.chars().next();
                let letter = |c: char| c.is_alphabetic() || c == '_';
                let rest = |c: char| letter(c) || c.is_numeric() || matches!(c, '.' | '-');
                first.is_some_and(letter) && text.chars().all(rest)
            }
        }
    }
}

/// `2011-05-04T19:43:08`, with fractions of a second and a zone perhaps.
fn is_date_time(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else { return false };
    let number = |word: Option<&str>, digits: usize, least: u32, most: u32| {
        word.is_some_and(|word| {
            word.len() == digits
                && word.bytes().all(|byte| byte.is_ascii_digit())
                && word.parse().is_ok_and(|number: u32| (least..=most).contains(&number))
        })
    };
    let mut date = date.strip_prefix('-').unwrap_or(date).split('-');
    if !number(date.next(), 4, 0, 9999) || !number(date.next(), 2, 1, 12) || !number(date.next(), 2, 1, 31) {
        return false;
    }
    let time = time.strip_suffix('Z').unwrap_or(time);
    let time = time.rfind(['+', '-']).map_or(time, |at| &time[..at]);
    let (time, fraction) =
        time.split_once('.').map_or((time, None), |(time, fraction)| (time, Some(fraction)));
    let mut time = time.split(':');
    number(time.next(), 2, 0, 24)
        && number(time.next(), 2, 0, 59)
        && number(time.next(), 2, 0, 59)
        && time.next().is_none()
        && date.next().is_none()
        && fraction.is_none_or(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Blanks at the ends are cut, others become one each.
pub(crate) fn collapse(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_types() {
        let allows = |name: &str, params: &[(&str, &str)], text: &str| {
            Datatype::new(name, params, Vec::new()).expect("known").allows(text)
        };
        assert!(allows("unsignedInt", &[], " 4294967295 ") && !allows("unsignedInt", &[], "4294967296"));
        assert!(!allows("unsignedInt", &[], "-1") && !allows("int", &[], "") && allows("int", &[], "+7"));
        assert!(allows("integer", &[("minInclusive", "3"), ("maxInclusive", "4")], "4"));
        assert!(!allows("integer", &[("minInclusive", "3")], "2"));
        // Whole, and signs that are letters.
        assert!(
            allows("string", &[("pattern", "[0-9]+")], "12")
                && !allows("string", &[("pattern", "[0-9]+")], "12a")
        );
        assert!(allows("string", &[("pattern", "$[a-z]+|\\^x")], "$ab"));
        assert!(allows("string", &[("pattern", "$[a-z]+|\\^x")], "^x"));
        assert!(
            allows("string", &[("pattern", "[^,]{0,2}")], "ab")
                && !allows("string", &[("pattern", "[^,]")], ",")
        );
        assert!(!allows("string", &[("maxLength", "2")], "abc"));
        assert!(
            allows("double", &[], "1.5e3") && !allows("double", &[], "inf") && !allows("double", &[], "x")
        );
        assert!(
            allows("dateTime", &[], "2011-05-04T19:43:08")
                && allows("dateTime", &[], "2011-05-04T19:43:08.5Z")
        );
        assert!(!allows("dateTime", &[], "2011-13-04T19:43:08") && !allows("dateTime", &[], "2011-05-04"));
        assert!(allows("NCName", &[], "a-b") && !allows("NCName", &[], "1a"));
        assert!(
            Datatype::new("hexBinary", &[], Vec::new()).is_err()
                && Datatype::new("string", &[("pattern", "(")], Vec::new()).is_err()
        );
        assert_eq!(collapse(" a \n b "), "a b");
    }
}
