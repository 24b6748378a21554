//! What a client is told when a keyword refuses a value. All of it is the schema's; nothing is the client's.

use serde_json::Value;

use crate::violation::shortened;

pub(super) fn message(keyword: &str, value: &Value) -> String {
    let text = match keyword {
        "type" => format!("must be {}", kinds(value)),
        "enum" => match value.as_array() {
            Some(values) => {
                let values: Vec<_> = values.iter().map(Value::to_string).collect();
                format!("must be one of {}", values.join(", "))
            }
            None => "must be one of the values of `enum`".to_owned(),
        },
        "const" => format!("must be {value}"),
        "multipleOf" => format!("must be a multiple of {value}"),
        "minimum" => format!("must be at least {value}"),
        "exclusiveMinimum" => format!("must be more than {value}"),
        "maximum" => format!("must be at most {value}"),
        "exclusiveMaximum" => format!("must be less than {value}"),
        "minLength" => format!("must have at least {}", counted(value, "character", "characters")),
        "maxLength" => format!("must have at most {}", counted(value, "character", "characters")),
        "pattern" => format!("must match the pattern {}", value.as_str().unwrap_or_default()),
        "minItems" => format!("must have at least {}", counted(value, "item", "items")),
        "maxItems" => format!("must have at most {}", counted(value, "item", "items")),
        "uniqueItems" => "must not have the same item twice".to_owned(),
        "minProperties" => format!("must have at least {}", counted(value, "member", "members")),
        "maxProperties" => format!("must have at most {}", counted(value, "member", "members")),
        other => format!("must be what `{other}` asks"),
    };
    shortened(text)
}

fn counted(value: &Value, one: &str, many: &str) -> String {
    let word = if value.as_f64() == Some(1.0) { one } else { many };
    format!("{value} {word}")
}

fn kinds(value: &Value) -> String {
    let kind = |value: &Value| match value.as_str() {
        Some("integer") => "an integer".to_owned(),
        Some("array") => "an array".to_owned(),
        Some("object") => "an object".to_owned(),
        Some("null") => "null".to_owned(),
        other => format!("a {}", other.unwrap_or("value")),
    };
    match value.as_array() {
        Some(kinds) => kinds.iter().map(kind).collect::<Vec<_>>().join(" or "),
        None => kind(value),
    }
}
