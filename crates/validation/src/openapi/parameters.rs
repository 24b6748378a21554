//! The parameters of an operation: where each stands in a request, and what its text means.

use serde_json::Value;

use super::{Document, MAX_REFERENCES};
use crate::program::decoded;
use crate::rule::Fields;
use crate::rule::read_json;
use crate::schema::{Schema, SchemaError};
use crate::violation::{Place, Violation, Violations, beneath};

/// Fields that are no parameters, whatever a document says (OpenAPI 3.1, Parameter Object).
const NO_PARAMETERS: [&str; 3] = ["accept", "content-type", "authorization"];

/// All parameters of an operation.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    /// The segments of the template, where one of them is a parameter.
    template: Option<(String, Vec<Segment>)>,
    all: Vec<Parameter>,
}

#[derive(Debug)]
enum Segment {
    Literal(String),
    Parameter(String),
}

#[derive(Debug)]
struct Parameter {
    stands: Stands,
    name: String,
    required: bool,
    schema: Schema,
    shape: Shape,
    /// A JSON Pointer into the document.
    place: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Path,
    Query,
    Header,
}

/// What a text can be.
#[derive(Debug)]
enum Shape {
    One(Kinds),
    /// Each a value of its own, or all in one, between commas.
    Several {
        kinds: Kinds,
        exploded: bool,
    },
}

/// The types that a value may have.
#[derive(Debug, Clone, Copy, Default)]
struct Kinds {
    text: bool,
    number: bool,
    boolean: bool,
    null: bool,
    array: bool,
    object: bool,
}

impl Stands {
    fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        }
    }
}

impl Parameters {
    pub(super) fn compile(
        document: &Document<'_>,
        path: &str,
        item: &str,
        operation: &str,
    ) -> Result<Self, SchemaError> {
        let mut all: Vec<Parameter> = Vec::new();
        for owner in [item, operation] {
            let list = beneath(owner, "parameters");
            let Some(parameters) = document.0.pointer(&list) else { continue };
            let count = parameters.as_array().map(Vec::len);
            let count = count.ok_or_else(|| SchemaError::new(list.clone(), "a list is expected"))?;
            for index in 0..count {
                let place = document.resolve(&format!("{list}/{index}"))?;
                let Some(parameter) = Parameter::compile(document, place)? else { continue };
                // An operation's own takes the place of its path's.
                all.retain(|other| (other.stands, &other.name) != (parameter.stands, &parameter.name));
                all.push(parameter);
            }
        }
        let template = template(path, &all)?;
        Ok(Self { template, all })
    }

    pub(crate) fn check(&self, path: &str, query: &str, fields: &Fields<'_>) -> Violations {
        let mut violations = Violations::default();
        let in_path = match self.template.as_ref().map(|(text, segments)| (text, in_path(segments, path))) {
            None => Vec::new(),
            Some((_, Some(values))) => values,
            Some((text, None)) => {
                let place = Place::Parameter("path", String::new());
                violations.add(Violation::new(
                    place,
                    String::new(),
                    format!("the path is not of the form {text}"),
                ));
                return violations;
            }
        };
        for parameter in &self.all {
            let texts: Option<Vec<String>> = match parameter.stands {
                Stands::Path => {
                    let own = in_path.iter().filter(|(name, _)| *name == parameter.name);
                    own.map(|(_, text)| decoded(text)).collect()
                }
                Stands::Query => in_query(query, &parameter.name),
                Stands::Header => {
                    let mut texts = Some(Vec::new());
                    fields(&parameter.name, &mut |value| match (std::str::from_utf8(value), &mut texts) {
                        (Ok(text), Some(texts)) => texts.push(text.trim().to_owned()),
                        _ => texts = None,
                    });
                    texts
                }
            };
            parameter.check(texts, &mut violations);
        }
        violations
    }
}

impl Parameter {
    /// `None` for what is no parameter.
    fn compile(document: &Document<'_>, place: String) -> Result<Option<Self>, SchemaError> {
        let members = document.object(&place)?;
        let text = |key: &str| members.get(key).and_then(Value::as_str);
        let wrong = |key: &str, message: String| SchemaError::new(beneath(&place, key), message);
        let flag = |key: &str, default| match members.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(wrong(key, "true or false is expected".to_owned())),
        };
        let stands = match text("in") {
            Some("path") => Stands::Path,
            Some("query") => Stands::Query,
            Some("header") => Stands::Header,
            Some(other) => return Err(wrong("in", format!("parameters in {other} are not supported"))),
            None => return Err(wrong("in", "path, query or header is expected".to_owned())),
        };
        let Some(name) = text("name").filter(|name| !name.is_empty()) else {
            return Err(wrong("name", "a name is expected".to_owned()));
        };
        if stands == Stands::Header && NO_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) {
            return Ok(None);
        }
        for key in ["content", "allowEmptyValue", "allowReserved"] {
            if members.get(key).is_some_and(|value| *value != Value::Bool(false)) {
                return Err(wrong(key, format!("`{key}` of a parameter is not supported")));
            }
        }
        let (style, exploded) = if stands == Stands::Query { ("form", true) } else { ("simple", false) };
        if let Some(other) = members.get("style").filter(|other| **other != style) {
            return Err(wrong("style", format!("the style {other} is not supported, only {style}")));
        }
        let exploded = flag("explode", exploded)? && stands == Stands::Query;
        let within = beneath(&place, "schema");
        if !members.contains_key("schema") {
            return Err(wrong("schema", "a schema is expected".to_owned()));
        }
        let shape = shape(document, &within, exploded)?;
        let schema = Schema::compile_at(document.0, &within)?;
        let required = flag("required", false)? || stands == Stands::Path;
        let name = if stands == Stands::Header { name.to_ascii_lowercase() } else { name.to_owned() };
        Ok(Some(Self { stands, name, required, schema, shape, place }))
    }

    fn check(&self, texts: Option<Vec<String>>, violations: &mut Violations) {
        let mut add = |schema: String, message: String| {
            violations.add(Violation::new(self.place_of_values(), schema, message));
        };
        let Some(texts) = texts else {
            return add(self.place.clone(), "is not UTF-8".to_owned());
        };
        if texts.is_empty() {
            if self.required {
                add(beneath(&self.place, "required"), "is required".to_owned());
            }
            return;
        }
        let value = match &self.shape {
            Shape::One(_) if texts.len() > 1 => {
                return add(self.place.clone(), "is given more than once".to_owned());
            }
            Shape::One(kinds) => kinds.value(&texts[0]),
            Shape::Several { kinds, exploded: true } => {
                Value::Array(texts.iter().map(|text| kinds.value(text)).collect())
            }
            Shape::Several { .. } if self.stands == Stands::Query && texts.len() > 1 => {
                return add(self.place.clone(), "is given more than once".to_owned());
            }
            Shape::Several { kinds, exploded: false } => {
                let items = texts.iter().flat_map(|text| text.split(','));
                let items = items.map(|item| if self.stands == Stands::Header { item.trim() } else { item });
                Value::Array(items.map(|item| kinds.value(item)).collect())
            }
        };
        for violation in self.schema.check(&value).listed {
            violations.add(self.violated(violation));
        }
    }

    /// What is wrong with the value, told of the parameter.
    fn violated(&self, violation: Violation) -> Violation {
        let Violation { place, schema, message, alternatives } = violation;
        let message = match place {
            Place::Body(pointer) if !pointer.is_empty() => format!("{pointer} {message}"),
            _ => message,
        };
        let alternatives = alternatives.into_iter().map(|violation| self.violated(violation)).collect();
        Violation { place: self.place_of_values(), schema, message, alternatives }
    }

    fn place_of_values(&self) -> Place {
        Place::Parameter(self.stands.word(), self.name.clone())
    }
}

impl Kinds {
    fn add(&mut self, word: &str) {
        match word {
            "string" => self.text = true,
            "number" | "integer" => self.number = true,
            "boolean" => self.boolean = true,
            "null" => self.null = true,
            "array" => self.array = true,
            "object" => self.object = true,
            _ => {}
        }
    }

    /// What a text means; what is none of the types stays the text, which the schema then refuses.
    fn value(self, text: &str) -> Value {
        match text {
            "true" | "false" if self.boolean => Value::Bool(text == "true"),
            "null" if self.null => Value::Null,
            _ if self.number && !text.starts_with([' ', '\t', '\n', '\r']) && text.trim_end() == text => {
                let number = read_json(text.as_bytes()).ok().filter(Value::is_number);
                number.unwrap_or_else(|| Value::String(text.to_owned()))
            }
            _ => Value::String(text.to_owned()),
        }
    }
}

/// Adds what a schema says that a value can be, by its own words and by those of its alternatives.
fn collect(document: &Document<'_>, place: &str, left: usize, kinds: &mut Kinds) -> Result<(), SchemaError> {
    let Some(Value::Object(schema)) = document.0.pointer(place) else { return Ok(()) };
    if left == 0 {
        return Err(SchemaError::new(place, "it is not clear which type the parameter has"));
    }
    match schema.get("type") {
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).for_each(|word| kinds.add(word)),
        Some(Value::String(word)) => kinds.add(word),
        _ => {
            let values = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
            values.chain(schema.get("const")).for_each(|value| kinds.add(kind_of(value)));
        }
    }
    if schema.contains_key("$ref") {
        let target = document.resolve(place)?;
        collect(document, &target, left - 1, kinds)?;
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let count = schema.get(keyword).and_then(Value::as_array).map_or(0, Vec::len);
        for index in 0..count {
            collect(document, &format!("{place}/{keyword}/{index}"), left - 1, kinds)?;
        }
    }
    Ok(())
}

/// Where a schema says what the items of an array are, itself or by what it refers to.
fn places_of_items(
    document: &Document<'_>,
    place: &str,
    left: usize,
    places: &mut Vec<String>,
) -> Result<(), SchemaError> {
    let Some(Value::Object(schema)) = document.0.pointer(place) else { return Ok(()) };
    if left == 0 {
        return Err(SchemaError::new(place, "it is not clear which items the parameter has"));
    }
    if schema.contains_key("items") {
        places.push(beneath(place, "items"));
    }
    if schema.contains_key("$ref") {
        places_of_items(document, &document.resolve(place)?, left - 1, places)?;
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let count = schema.get(keyword).and_then(Value::as_array).map_or(0, Vec::len);
        for index in 0..count {
            places_of_items(document, &format!("{place}/{keyword}/{index}"), left - 1, places)?;
        }
    }
    Ok(())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn shape(document: &Document<'_>, place: &str, exploded: bool) -> Result<Shape, SchemaError> {
    let mut own = Kinds::default();
    collect(document, place, MAX_REFERENCES, &mut own)?;
    if own.object {
        return Err(SchemaError::new(place, "objects as parameters are not supported"));
    }
    if !own.array {
        return Ok(Shape::One(own));
    }
    if own.text || own.number || own.boolean || own.null {
        return Err(SchemaError::new(
            place,
            "a parameter that is an array or something else is not supported",
        ));
    }
    let (mut places, mut items) = (Vec::new(), Kinds::default());
    places_of_items(document, place, MAX_REFERENCES, &mut places)?;
    for place in places {
        collect(document, &place, MAX_REFERENCES, &mut items)?;
        if items.array || items.object {
            let message = "only arrays of texts, numbers and booleans are supported as parameters";
            return Err(SchemaError::new(place, message));
        }
    }
    Ok(Shape::Several { kinds: items, exploded })
}

fn template(path: &str, all: &[Parameter]) -> Result<Option<(String, Vec<Segment>)>, SchemaError> {
    let place = beneath("/paths", path);
    let mut segments = Vec::new();
    for segment in path.split('/').skip(1) {
        let name = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}'));
        match name {
            Some(name) if !name.contains(['{', '}']) => segments.push(Segment::Parameter(name.to_owned())),
            None if !segment.contains(['{', '}']) => segments.push(Segment::Literal(segment.to_owned())),
            _ => return Err(SchemaError::new(place, "a path parameter takes a whole segment of the path")),
        }
    }
    let declared = |name: &str| all.iter().any(|one| one.stands == Stands::Path && one.name == name);
    let named = |name: &str| segments.iter().any(|one| matches!(one, Segment::Parameter(own) if own == name));
    for segment in &segments {
        if let Segment::Parameter(name) = segment
            && !declared(name)
        {
            return Err(SchemaError::new(place, format!("the path parameter {name} is not declared")));
        }
    }
    if let Some(other) = all.iter().find(|one| one.stands == Stands::Path && !named(&one.name)) {
        let message = format!("the path {path} has no parameter {}", other.name);
        return Err(SchemaError::new(other.place.clone(), message));
    }
    let has_any = segments.iter().any(|segment| matches!(segment, Segment::Parameter(_)));
    Ok(has_any.then(|| (path.to_owned(), segments)))
}

/// The texts of the parameters in a path that ends as the template does: what stands before it is the route's.
fn in_path<'p>(segments: &[Segment], path: &'p str) -> Option<Vec<(String, &'p str)>> {
    let own: Vec<&str> = path.split('/').skip(1).collect();
    let begin = own.len().checked_sub(segments.len())?;
    let mut values = Vec::new();
    for (segment, text) in segments.iter().zip(&own[begin..]) {
        match segment {
            Segment::Literal(literal) if decoded(text).as_deref() == Some(literal) => {}
            Segment::Literal(_) => return None,
            Segment::Parameter(name) => values.push((name.clone(), *text)),
        }
    }
    Some(values)
}

/// The values of a name in a query, as forms have them; `None` where they are not UTF-8.
fn in_query(query: &str, name: &str) -> Option<Vec<String>> {
    let plain = |text: &str| decoded(&text.replace('+', " "));
    let mut values = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (own, value) = pair.split_once('=').unwrap_or((pair, ""));
        if plain(own).as_deref() == Some(name) {
            values.push(plain(value)?);
        }
    }
    Some(values)
}
