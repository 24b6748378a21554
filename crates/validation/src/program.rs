//! A schema in the form that violations are found by: each keyword that a client can be told of, and where the others lead.

mod references;
mod words;

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::schema::{SchemaError, options};
use crate::violation::beneath;
pub(crate) use references::{References, decoded};
use words::message;

/// A schema and all that it refers to.
#[derive(Debug)]
pub(crate) struct Program {
    nodes: Vec<Node>,
    roots: Vec<String>,
    unresolved: Vec<(String, String)>,
}

/// One schema.
#[derive(Debug)]
pub(crate) struct Node {
    /// A JSON Pointer into the document.
    pub(crate) place: String,
    pub(crate) parts: Vec<Part>,
}

/// The number of a node.
pub(crate) type Id = usize;

/// What a keyword asks.
#[derive(Debug)]
pub(crate) enum Part {
    /// The schema `false`.
    Never,
    /// A keyword that looks at the value alone.
    Leaf {
        keyword: String,
        validator: Arc<Validator>,
        message: String,
    },
    Required(Vec<String>),
    DependentRequired(Vec<(String, Vec<String>)>),
    DependentSchemas(Vec<(String, Id)>),
    Same(Id),
    AllOf(Vec<Id>),
    AnyOf(Vec<Id>),
    OneOf(Vec<Id>),
    Not(Id),
    If {
        condition: Id,
        then: Option<Id>,
        otherwise: Option<Id>,
    },
    Properties {
        named: HashMap<String, Id>,
        patterns: Vec<(Arc<Validator>, Id)>,
        others: Option<Id>,
    },
    PropertyNames(Id),
    Items {
        prefix: Vec<Id>,
        others: Option<Id>,
    },
    Contains {
        item: Id,
        min: usize,
        max: usize,
    },
    UnevaluatedProperties(Id),
    UnevaluatedItems(Id),
}

/// The most schemas of one document, and the most that lead into each other for the same value: each is a step deeper into the stack
/// of whoever judges.
const MAX_NODES: usize = 10_000;
const MAX_IN_PLACE: usize = 64;

/// Keywords that look at a value alone.
const LEAVES: [&str; 16] = [
    "type",
    "enum",
    "const",
    "multipleOf",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
];

impl Program {
    /// The first node.
    pub(crate) const ROOT: Id = 0;

    /// The schema under a pointer into a document.
    ///
    /// # Errors
    /// A pattern or another keyword that cannot be used.
    pub(crate) fn compile(document: &Value, pointer: &str) -> Result<Self, SchemaError> {
        let mut compiler = Compiler {
            document,
            references: References::of(document),
            nodes: Vec::new(),
            ids: HashMap::new(),
            waiting: Vec::new(),
            roots: vec![pointer.to_owned()],
            unresolved: Vec::new(),
            validators: HashMap::new(),
        };
        compiler.node(pointer.to_owned());
        // A queue in the place of recursion: schemas refer to each other in circles.
        while let Some(id) = compiler.waiting.pop() {
            let place = compiler.nodes[id].place.clone();
            compiler.nodes[id].parts = compiler.parts(&place)?;
            if compiler.nodes.len() > MAX_NODES {
                return Err(SchemaError::new(
                    "",
                    format!("it holds or refers to more than {MAX_NODES} schemas"),
                ));
            }
        }
        let Compiler { nodes, roots, unresolved, .. } = compiler;
        let program = Self { nodes, roots, unresolved };
        let mut heights = vec![None; program.nodes.len()];
        (0..program.nodes.len())
            .try_for_each(|id| program.height(id, MAX_IN_PLACE, &mut heights).map(drop))?;
        Ok(program)
    }

    /// How many schemas lead into each other from here on, each for the same value.
    fn height(&self, id: Id, left: usize, heights: &mut [Option<usize>]) -> Result<usize, SchemaError> {
        let known = heights[id];
        // One that leads to itself is higher than anything.
        if left == 0 || known.is_some_and(|height| height > left) {
            let message =
                format!("more than {MAX_IN_PLACE} schemas lead into each other here, for the same value");
            return Err(SchemaError::new(self.nodes[id].place.clone(), message));
        }
        if let Some(height) = known {
            return Ok(height);
        }
        let mut height = 0;
        for next in self.nodes[id].parts.iter().flat_map(Part::in_place) {
            height = height.max(1 + self.height(next, left - 1, heights)?);
        }
        heights[id] = Some(height);
        Ok(height)
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    /// The places in the document at which a schema begins that no other one around it holds.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &str> {
        self.roots.iter().map(String::as_str)
    }

    /// The first reference that is not known to lead anywhere, and where it stands.
    pub(crate) fn unresolved(&self) -> Option<(&str, &str)> {
        self.unresolved.first().map(|(place, reference)| (place.as_str(), reference.as_str()))
    }
}

impl Part {
    /// The schemas that judge the same value.
    fn in_place(&self) -> Vec<Id> {
        match self {
            Self::Same(id) | Self::Not(id) => vec![*id],
            Self::AllOf(ids) | Self::AnyOf(ids) | Self::OneOf(ids) => ids.clone(),
            Self::DependentSchemas(dependent) => dependent.iter().map(|(_, id)| *id).collect(),
            Self::If { condition, then, otherwise } => {
                [Some(*condition), *then, *otherwise].into_iter().flatten().collect()
            }
            _ => Vec::new(),
        }
    }
}

struct Compiler<'a> {
    document: &'a Value,
    references: References,
    nodes: Vec<Node>,
    ids: HashMap<String, Id>,
    waiting: Vec<Id>,
    roots: Vec<String>,
    unresolved: Vec<(String, String)>,
    /// By their text, since most schemas ask the same of many values.
    validators: HashMap<String, Arc<Validator>>,
}

impl Compiler<'_> {
    fn node(&mut self, place: String) -> Id {
        if let Some(known) = self.ids.get(&place) {
            return *known;
        }
        let id = self.nodes.len();
        self.nodes.push(Node { place: place.clone(), parts: Vec::new() });
        self.ids.insert(place, id);
        self.waiting.push(id);
        id
    }

    fn parts(&mut self, place: &str) -> Result<Vec<Part>, SchemaError> {
        let document = self.document;
        let members = match document.pointer(place) {
            Some(Value::Bool(false)) => return Ok(vec![Part::Never]),
            Some(Value::Object(members)) => members,
            _ => return Ok(Vec::new()),
        };
        let mut parts = Vec::new();
        for keyword in LEAVES {
            let Some(value) = members.get(keyword) else { continue };
            let validator = self.validator(keyword, value, &beneath(place, keyword))?;
            let message = message(keyword, value);
            parts.push(Part::Leaf { keyword: keyword.to_owned(), validator, message });
        }
        self.of_objects(members, place, &mut parts)?;
        self.of_arrays(members, place, &mut parts);
        self.in_place(members, place, &mut parts);
        for (keyword, part) in [
            ("unevaluatedProperties", Part::UnevaluatedProperties as fn(Id) -> Part),
            ("unevaluatedItems", Part::UnevaluatedItems),
        ] {
            // They judge what no other keyword has looked at, so they come last.
            parts.extend(self.one(members, place, keyword).map(part));
        }
        Ok(parts)
    }

    fn of_objects(
        &mut self,
        members: &Map<String, Value>,
        place: &str,
        parts: &mut Vec<Part>,
    ) -> Result<(), SchemaError> {
        if let Some(required) = members.get("required") {
            parts.push(Part::Required(texts(required)));
        }
        if let Some(Value::Object(dependent)) = members.get("dependentRequired") {
            let each = dependent.iter().map(|(name, required)| (name.clone(), texts(required)));
            parts.push(Part::DependentRequired(each.collect()));
        }
        let dependent = self.named(members, place, "dependentSchemas");
        if !dependent.is_empty() {
            parts.push(Part::DependentSchemas(dependent));
        }
        let named: HashMap<_, _> = self.named(members, place, "properties").into_iter().collect();
        let mut patterns = Vec::new();
        for (pattern, id) in self.named(members, place, "patternProperties") {
            let place = beneath(&beneath(place, "patternProperties"), &pattern);
            patterns.push((self.validator("pattern", &Value::String(pattern), &place)?, id));
        }
        let others = self.one(members, place, "additionalProperties");
        if !named.is_empty() || !patterns.is_empty() || others.is_some() {
            parts.push(Part::Properties { named, patterns, others });
        }
        parts.extend(self.one(members, place, "propertyNames").map(Part::PropertyNames));
        Ok(())
    }

    fn of_arrays(&mut self, members: &Map<String, Value>, place: &str, parts: &mut Vec<Part>) {
        let prefix = self.several(members, place, "prefixItems");
        let others = self.one(members, place, "items");
        if !prefix.is_empty() || others.is_some() {
            parts.push(Part::Items { prefix, others });
        }
        if let Some(item) = self.one(members, place, "contains") {
            let bound =
                |keyword, default| members.get(keyword).and_then(Value::as_f64).map_or(default, whole);
            let (min, max) = (bound("minContains", 1), bound("maxContains", usize::MAX));
            parts.push(Part::Contains { item, min, max });
        }
    }

    fn in_place(&mut self, members: &Map<String, Value>, place: &str, parts: &mut Vec<Part>) {
        for keyword in ["$ref", "$dynamicRef"] {
            let Some(Value::String(reference)) = members.get(keyword) else { continue };
            let target = self.references.resolve(reference, place);
            // Whether it leads nowhere is the library's to judge: it knows more ways. What it finds there is not explained.
            let Some(target) = target.filter(|target| self.document.pointer(target).is_some()) else {
                self.unresolved.push((beneath(place, keyword), reference.clone()));
                continue;
            };
            if !self.ids.contains_key(&target) {
                self.roots.push(target.clone());
            }
            parts.push(Part::Same(self.node(target)));
        }
        for (keyword, part) in
            [("allOf", Part::AllOf as fn(Vec<Id>) -> Part), ("anyOf", Part::AnyOf), ("oneOf", Part::OneOf)]
        {
            if members.contains_key(keyword) {
                parts.push(part(self.several(members, place, keyword)));
            }
        }
        parts.extend(self.one(members, place, "not").map(Part::Not));
        if let Some(condition) = self.one(members, place, "if") {
            let then = self.one(members, place, "then");
            let otherwise = self.one(members, place, "else");
            parts.push(Part::If { condition, then, otherwise });
        }
    }

    fn one(&mut self, members: &Map<String, Value>, place: &str, keyword: &str) -> Option<Id> {
        members.contains_key(keyword).then(|| self.node(beneath(place, keyword)))
    }

    fn several(&mut self, members: &Map<String, Value>, place: &str, keyword: &str) -> Vec<Id> {
        let count = members.get(keyword).and_then(Value::as_array).map_or(0, Vec::len);
        let place = beneath(place, keyword);
        (0..count).map(|index| self.node(format!("{place}/{index}"))).collect()
    }

    fn named(&mut self, members: &Map<String, Value>, place: &str, keyword: &str) -> Vec<(String, Id)> {
        let Some(Value::Object(schemas)) = members.get(keyword) else { return Vec::new() };
        let place = beneath(place, keyword);
        schemas.keys().map(|name| (name.clone(), self.node(beneath(&place, name)))).collect()
    }

    fn validator(
        &mut self,
        keyword: &str,
        value: &Value,
        place: &str,
    ) -> Result<Arc<Validator>, SchemaError> {
        let schema = json!({ keyword: value });
        let text = schema.to_string();
        if let Some(known) = self.validators.get(&text) {
            return Ok(Arc::clone(known));
        }
        let refused = |error: jsonschema::ValidationError<'_>| {
            let message = match keyword {
                "pattern" => format!(
                    "{value} is no regular expression that can be used: look-around and back-references, which can take any time, \
                     cannot, nor what needs an automaton of more than 1 MiB"
                ),
                _ => error.to_string(),
            };
            SchemaError::new(place, message)
        };
        let validator = Arc::new(options().build(&schema).map_err(refused)?);
        self.validators.insert(text, Arc::clone(&validator));
        Ok(validator)
    }
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bound that large is none")]
fn whole(number: f64) -> usize {
    number as usize
}
