//! From what was written to types: a deserializer whose errors say where they are.
//!
//! toml's own deserializer gives an error's line but not its key path, and flattens into text
//! what was expected; both are needed to say what to do about it.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::tree::{Node, Path, Step, Value};

/// What is wrong with a value, and where it is.
#[derive(Debug)]
pub(super) struct Fault {
    /// From the innermost step outwards.
    steps: Vec<Step>,
    pub(super) kind: FaultKind,
}

/// What is wrong with a value.
#[derive(Debug)]
pub(super) enum FaultKind {
    /// There is no such key. The path names it.
    UnknownKey { known: &'static [&'static str] },
    /// It is none of the names that are allowed.
    UnknownName { name: String, known: &'static [&'static str] },
    /// A key without which the table makes no sense.
    MissingKey { key: &'static str },
    /// It is of the wrong kind.
    Kind { expected: String },
    /// It is of the right kind, but this value is not allowed.
    Value { value: String, expected: String },
    /// What the type itself says of it.
    Other(String),
}

impl Fault {
    fn new(kind: FaultKind) -> Self {
        Self { steps: Vec::new(), kind }
    }

    fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(super) fn path(&self) -> Path {
        Path(self.steps.iter().rev().cloned().collect())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path(), self.kind)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(FaultKind::Other(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(FaultKind::Kind { expected: expected.to_string() })
    }

    fn invalid_value(value: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let value = match value {
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Float(number) => number.to_string(),
            _ => "this".into(),
        };
        Self::new(FaultKind::Value { value, expected: expected.to_string() })
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Self::new(FaultKind::UnknownName { name: name.into(), known })
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(FaultKind::UnknownKey { known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(FaultKind::MissingKey { key })
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Table(table) => visitor.visit_map(Entries { iter: table.iter(), value: None }),
            Value::List(list) => visitor.visit_seq(Items { iter: list.iter().enumerate() }),
            Value::Text(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Unfit(kind) => Err(Fault::invalid_type(Unexpected::Other(kind), &visitor)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // In a variable, `LENSLINE_CAMERA__0__ID=7` means the text as well.
        match &self.raw {
            Some(raw) if !matches!(self.value, Value::Text(_)) => visitor.visit_str(raw),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match (&self.value, &self.raw) {
            (Value::Text(name), _) | (_, Some(name)) => visitor.visit_enum(Name(name)),
            _ => Err(Fault::new(FaultKind::Kind { expected: "a string".into() })),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The entries of a table, one after the other.
struct Entries<'de> {
    iter: std::collections::btree_map::Iter<'de, String, Node>,
    value: Option<(&'de str, &'de Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.iter.next() else { return Ok(None) };
        self.value = Some((key, value));
        let deserializer: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        let key = seed.deserialize(deserializer);
        key.map(Some).map_err(|fault| self.at(fault))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (_, value) = self.value.ok_or_else(|| Fault::custom("a value before its key"))?;
        seed.deserialize(value).map_err(|fault| self.at(fault))
    }
}

impl Entries<'_> {
    /// The fault, placed at the current key.
    fn at(&self, fault: Fault) -> Fault {
        match self.value {
            Some((key, _)) => fault.within(Step::Key(key.into())),
            None => fault,
        }
    }
}

/// The items of a list, one after the other.
struct Items<'de> {
    iter: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((index, item)) = self.iter.next() else { return Ok(None) };
        seed.deserialize(item).map(Some).map_err(|fault| fault.within(Step::Index(index)))
    }
}

/// One of several names; none of ours has anything inside.
struct Name<'de>(&'de str);

impl<'de> EnumAccess<'de> for Name<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let deserializer: StrDeserializer<'_, Fault> = self.0.into_deserializer();
        Ok((seed.deserialize(deserializer)?, self))
    }
}

impl<'de> VariantAccess<'de> for Name<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(Fault::custom("is only a name"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("is only a name"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        Err(Fault::custom("is only a name"))
    }
}
