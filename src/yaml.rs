//! YAML in and out, as JSON values: the one module that uses `serde_yaml`.

use serde_json::Value;

/// Reads one YAML document; the error is one line.
///
/// Compose files have nothing that JSON lacks: merge keys are gone from what `docker compose config` prints, and keys
/// are text.
pub fn parse(text: &str) -> Result<Value, String> {
    serde_yaml::from_str(text).map_err(|error| error.to_string().replace('\n', " "))
}

/// As [`parse`], for files that people wrote, with merge keys (`<<`).
pub fn parse_merged(text: &str) -> Result<Value, String> {
    let read = || {
        let mut value: serde_yaml::Value = serde_yaml::from_str(text)?;
        value.apply_merge()?;
        serde_yaml::from_value(value)
    };
    read().map_err(|error: serde_yaml::Error| error.to_string().replace('\n', " "))
}

/// Writes a value as YAML.
pub fn write(value: &Value) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let value = serde_json::json!({"a": "yes", "b": "8080", "c": [1, null, 1.5, true], "d": "x: y\n#z"});
        assert_eq!(parse(&write(&value).unwrap()), Ok(value));
    }

    #[test]
    fn merge_keys_are_merged_where_people_wrote_them() {
        let value = parse_merged("a: &a {b: 1}\nc:\n  <<: *a\n  d: 2").unwrap();
        assert_eq!(value["c"], serde_json::json!({"b": 1, "d": 2}));
    }

    #[test]
    fn an_error_is_one_line() {
        let error = parse("a: [1\nb: 2").unwrap_err();
        assert!(!error.contains('\n'), "{error}");
    }
}
