//! The redaction itself: copies JSON and replaces the values of named fields.
//!
//! Invariant: what is not replaced keeps its order and its exact text, numbers included.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Appends `text` to `out` with the value of each field in `fields` replaced.
pub(crate) fn redact(
    text: &str,
    fields: &[String],
    replacement: &str,
    out: &mut Vec<u8>,
) -> serde_json::Result<()> {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text)?;
            out.push(b'{');
            for (place, (name, value)) in members.into_iter().enumerate() {
                separate(place, out);
                serde_json::to_writer(&mut *out, &name)?;
                out.push(b':');
                if fields.contains(&name) {
                    out.extend_from_slice(replacement.as_bytes());
                } else {
                    redact(value.get(), fields, replacement, out)?;
                }
            }
            out.push(b'}');
        }
        Some(b'[') => {
            let values: Vec<&RawValue> = serde_json::from_str(text)?;
            out.push(b'[');
            for (place, value) in values.into_iter().enumerate() {
                separate(place, out);
                redact(value.get(), fields, replacement, out)?;
            }
            out.push(b']');
        }
        _ => {
            let value: &RawValue = serde_json::from_str(text)?;
            out.extend_from_slice(value.get().as_bytes());
        }
    }
    Ok(())
}

fn separate(place: usize, out: &mut Vec<u8>) {
    if place > 0 {
        out.push(b',');
    }
}

/// An object's members in their order, values unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
