//! Shell-like patterns with `*` (any run) and `?` (any one character).

/// Whether `text` as a whole matches `pattern`. Linear in the text for each `*`; never recursive.
#[must_use]
pub fn glob_match(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to resume when a later literal fails: after the last star, one character further into the text.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after_star, start)) => {
                    p = after_star;
                    t = start + 1;
                    retry = Some((after_star, start + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::glob_match;

    #[test]
    fn wildcards() {
        for (pattern, text, want) in [
            ("", "", true),
            ("*", "", true),
            ("*", "pr_request", true),
            ("pr_*", "pr_request", true),
            ("pr_*", "conn_open", false),
            ("*_open", "conn_open", true),
            ("c?nn*n", "conn_open", true),
            ("c?nn*x", "conn_open", false),
            ("?", "", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("conn_open", "conn_opened", false),
        ] {
            assert_eq!(glob_match(pattern, text), want, "{pattern} ~ {text}");
        }
    }
}
