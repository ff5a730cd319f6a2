//! Questions to the answer of `query-qmp-schema`.

use json::Value;
use std::collections::HashMap;

/// The entities of a schema by name.
#[derive(Default)]
pub(crate) struct Schema<'a> {
    entities: HashMap<&'a str, &'a Value>,
}

/// How deep types may refer to types on one path: a schema is what an emulator says.
const MAX_STEPS: usize = 64;

impl<'a> Schema<'a> {
    pub(crate) fn new(reply: &'a Value) -> Self {
        let entities = reply.as_list().unwrap_or_default();
        Self {
            entities: entities
                .iter()
                .filter_map(|entity| Some((entity.get("name")?.as_str()?, entity)))
                .collect(),
        }
    }

    /// Whether the path leads somewhere: `COMMAND/arg-type/MEMBER/+VARIANT/^VALUE`, or `$FEATURE` of what comes
    /// before. Arrays and alternatives are looked through.
    pub(crate) fn has(&self, path: &str) -> bool {
        let mut parts = path.split('/');
        let Some(entity) = parts.next().and_then(|name| self.entities.get(name)) else { return false };
        let rest: Vec<_> = parts.collect();
        self.walk(entity, &rest, MAX_STEPS)
    }

    fn named(&self, name: Option<&Value>, rest: &[&str], steps: usize) -> bool {
        let entity = name.and_then(Value::as_str).and_then(|name| self.entities.get(name));
        entity.is_some_and(|entity| self.walk(entity, rest, steps - 1))
    }

    fn walk(&self, entity: &Value, path: &[&str], steps: usize) -> bool {
        let Some((&part, rest)) = path.split_first() else { return true };
        if steps == 0 {
            return false;
        }
        let list = |key| entity.get(key).and_then(Value::as_list).unwrap_or_default();
        let names =
            |item: &&Value, key: &str, wanted: &str| item.get(key).and_then(Value::as_str) == Some(wanted);
        if let Some(feature) = part.strip_prefix('$') {
            return list("features").iter().any(|item| item.as_str() == Some(feature));
        }
        match entity.get("meta-type").and_then(Value::as_str) {
            Some("command" | "event") => self.named(entity.get(part), rest, steps),
            Some("array") => self.named(entity.get("element-type"), path, steps),
            Some("alternate") => {
                list("members").iter().any(|member| self.named(member.get("type"), path, steps))
            }
            Some("enum") => part
                .strip_prefix('^')
                .is_some_and(|wanted| list("values").iter().any(|value| value.as_str() == Some(wanted))),
            Some("object") => {
                let (key, by, wanted) = match part.strip_prefix('+') {
                    Some(case) => ("variants", "case", case),
                    None => ("members", "name", part),
                };
                let found = list(key).iter().find(|item| names(item, by, wanted));
                found.is_some_and(|item| self.named(item.get("type"), rest, steps))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let text = "[{'name':'a','meta-type':'command','arg-type':'1','ret-type':'2','features':['f']},
            {'name':'1','meta-type':'object','members':[{'name':'m','type':'2'}],'variants':[{'case':'v','type':'3'}]},
            {'name':'2','meta-type':'array','element-type':'3'},
            {'name':'3','meta-type':'enum','values':['x']},
            {'name':'b','meta-type':'command','arg-type':'4','ret-type':'4'},
            {'name':'4','meta-type':'array','element-type':'4'}]";
        let reply = json::parse(text.as_bytes()).expect("json");
        let schema = Schema::new(&reply);
        for path in ["a", "a/$f", "a/arg-type/m", "a/arg-type/m/^x", "a/arg-type/+v/^x", "a/ret-type/^x"] {
            assert!(schema.has(path), "{path}");
        }
        for path in
            ["c", "a/$g", "a/arg-type/n", "a/arg-type/m/^y", "a/arg-type/+w", "a/ret-type/x", "b/arg-type/x"]
        {
            assert!(!schema.has(path), "{path}");
        }
    }
}
