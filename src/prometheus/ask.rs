//! Asks Prometheus for the value of a query.

use futures_util::{StreamExt, stream::FuturesUnordered};
use reqwest::Client;
use serde_json::Value;
use tokio::time::sleep;

use super::{Measurements, Metric};
use crate::client;

/// Completes with the reason when the new version fails one of the metrics; never, if it fails none.
pub async fn first_failure(all: &mut [Measurements]) -> String {
    let following = all.iter_mut().map(failure);
    let mut following: FuturesUnordered<_> = following.collect();
    while let Some(ended) = following.next().await {
        if let Some(why) = ended {
            return why;
        }
    }
    std::future::pending().await
}

async fn failure(of: &mut Measurements) -> Option<String> {
    let client = client::builder().build();
    while !of.is_over() {
        sleep(of.metric.interval).await;
        let value = match &client {
            Ok(client) => value(client, &of.metric).await,
            Err(error) => Err(client::reason(error)),
        };
        let why = of.note(value.map_err(|why| format!("Prometheus: {why}")));
        if why.is_some() {
            return why;
        }
    }
    None
}

async fn value(client: &Client, metric: &Metric) -> Result<f64, String> {
    let mut url = metric.address.clone();
    let path = format!("{}/api/v1/query", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url.query_pairs_mut().append_pair("query", &metric.query);
    let response = client.get(url).send().await;
    let response = response.map_err(|error| client::reason(&error.without_url()))?;
    let status = response.status();
    let text = client::text(response).await?;
    let answer: Value =
        serde_json::from_str(&text).map_err(|_| format!("it answers {status}, and no JSON"))?;
    read(&answer)
}

/// The number in an answer of `/api/v1/query`: a scalar, or a vector with one element.
fn read(answer: &Value) -> Result<f64, String> {
    if let Some(error) = answer["error"].as_str() {
        return Err(error.replace('\n', " "));
    }
    let data = &answer["data"];
    let sample = match (data["resultType"].as_str(), data["result"].as_array()) {
        (Some("scalar"), _) => &data["result"],
        (Some("vector"), Some(all)) if all.is_empty() => return Ok(f64::NAN),
        (Some("vector"), Some(all)) if all.len() == 1 => &all[0]["value"],
        (Some("vector"), Some(all)) => {
            let count = all.len();
            return Err(format!(
                "the query has {count} results; wrap it in sum(…) or max(…)"
            ));
        }
        _ => return Err("its answer has neither a scalar nor a vector".to_owned()),
    };
    let number = sample[1].as_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("{sample} is no sample"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::prometheus;

    fn data(kind: &str, result: Value) -> Value {
        json!({"status": "success", "data": {"resultType": kind, "result": result}})
    }

    #[test]
    fn the_number_of_a_scalar_or_of_a_single_element_is_read() {
        let one = |value: &str| json!([{"metric": {}, "value": [1.5, value]}]);
        assert_eq!(read(&data("scalar", json!([1.5, "0.25"]))), Ok(0.25));
        assert_eq!(read(&data("vector", one("7"))), Ok(7.0));
        assert_eq!(read(&data("vector", one("+Inf"))), Ok(f64::INFINITY));
        assert!(read(&data("vector", one("NaN"))).unwrap().is_nan());
        assert!(read(&data("vector", json!([]))).unwrap().is_nan());
        for (answer, said) in [
            (data("vector", json!([1, 2])), "2 results"),
            (data("matrix", json!([])), "neither a scalar nor a vector"),
            (data("scalar", json!([1.5])), "is no sample"),
            (
                json!({"status": "error", "error": "parse error:\nx"}),
                "parse error: x",
            ),
            (json!([]), "neither a scalar nor a vector"),
        ] {
            let why = read(&answer).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }

    /// Answers one question with this value.
    async fn answers(listener: &TcpListener, value: &str) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let length = stream.read(&mut asked).await.unwrap();
        let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
        let wanted = "GET /p/api/v1/query?query=a%2Bb ";
        assert!(asked.starts_with(wanted), "{asked}");
        let body = data("scalar", json!([1, value])).to_string();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_is_asked_until_the_metric_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let x_rollout = json!({"analysis": {"prometheus": {
            "address": format!("http://127.0.0.1:{port}/p/"),
            "query": "a+b", "success": "< 0.01", "interval": "1ms",
        }}});
        let metrics = prometheus::read("web", Some(&x_rollout)).unwrap();
        let mut all: Vec<_> = metrics.iter().map(Measurements::new).collect();
        let serve = async {
            answers(&listener, "0.001").await;
            answers(&listener, "0.5").await;
        };
        let (why, ()) = tokio::join!(first_failure(&mut all), serve);
        assert_eq!(why, "a+b is 0.5, and must be < 0.01");
        assert_eq!(all[0].lack(), None);
    }
}
