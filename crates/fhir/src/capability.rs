//! What this server can do, as a FHIR CapabilityStatement.
//!
//! Made from the same catalogue that searches run on, so it cannot promise a search parameter that
//! is not there. What the front decides (addresses, types it only answers) is given by it.

use serde_json::{Map, Value, json};

use crate::search::ast::ParamType;
use crate::search::catalogue::{Catalogue, SearchParam};

/// What the statement says about one running server.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// Base URL of the FHIR service, without a `/` at the end.
    pub base_url: &'a str,
    /// Version of the software.
    pub version: &'a str,
    /// Date of the statement, a FHIR `dateTime`.
    pub date: &'a str,
    /// OAuth endpoints; `None` where everything is open, in development.
    pub smart: Option<Smart<'a>>,
    /// Types that are answered and never written by clients, such as `AuditEvent`.
    pub read_only: &'a [&'a str],
    /// Whether `_text` and `_content` are offered.
    pub full_text: bool,
}

/// OAuth endpoints (SMART App Launch 2.2).
#[derive(Debug, Clone, Copy)]
pub struct Smart<'a> {
    /// Token endpoint.
    pub token_url: &'a str,
    /// Authorization endpoint, where people can sign in to apps.
    pub authorize_url: Option<&'a str>,
    /// Introspection endpoint.
    pub introspect_url: Option<&'a str>,
}

/// The CapabilityStatement of a server: its resource types, each with what can be done and every
/// search parameter that is evaluated.
///
/// Reverse includes by a reference to any type (`Provenance:target`, `List:item`) work for every
/// type but are listed for none except Provenance: they would be most of the statement.
pub fn statement(server: &Server<'_>) -> Value {
    let resources: Vec<Value> = Catalogue::r4()
        .resource_types()
        .filter(|name| !NEVER_STORED.contains(name))
        .map(|name| resource(server, name))
        .collect();
    let mut rest = json!({
        "mode": "server",
        "resource": resources,
        "interaction": [{"code": "transaction"}, {"code": "batch"}],
    });
    if let (Some(smart), Some(rest)) = (&server.smart, rest.as_object_mut()) {
        rest.insert("security".to_owned(), security(smart));
    }
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": server.date,
        "kind": "instance",
        "software": {"name": "Stele", "version": server.version},
        "implementation": {
            "description": "Stele health-record ledger, FHIR R4",
            "url": server.base_url,
        },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "patchFormat": ["application/json-patch+json"],
        "rest": [rest],
    })
}

fn security(smart: &Smart<'_>) -> Value {
    let endpoints = [
        ("token", Some(smart.token_url)),
        ("authorize", smart.authorize_url),
        ("introspect", smart.introspect_url),
    ];
    let endpoints: Vec<Value> = endpoints
        .into_iter()
        .filter_map(|(name, url)| Some(json!({"url": name, "valueUri": url?})))
        .collect();
    json!({
        "extension": [{"url": OAUTH_URIS, "extension": endpoints}],
        "cors": true,
        "service": [{
            "coding": [{"system": SECURITY_SERVICES, "code": "SMART-on-FHIR"}],
            "text": "OAuth 2 with SMART scopes",
        }],
    })
}

fn resource(server: &Server<'_>, name: &'static str) -> Value {
    let read_only = server.read_only.contains(&name);
    let interactions: &[&str] = if read_only { &READING } else { &ALL };
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("type", json!(name));
    put(
        "profile",
        json!(format!("http://hl7.org/fhir/StructureDefinition/{name}")),
    );
    put(
        "interaction",
        interactions
            .iter()
            .map(|code| json!({"code": code}))
            .collect(),
    );
    put("versioning", json!("versioned"));
    put("readHistory", json!(true));
    if !read_only {
        put("updateCreate", json!(true));
        put("conditionalCreate", json!(true));
        put("conditionalUpdate", json!(true));
        put("conditionalDelete", json!("not-supported"));
    }
    put("referencePolicy", json!(["literal", "logical", "local"]));
    let includes = includes(name);
    if !includes.is_empty() {
        put("searchInclude", json!(includes));
    }
    let revincludes = revincludes(name);
    if !revincludes.is_empty() {
        put("searchRevInclude", json!(revincludes));
    }
    put("searchParam", search_params(server, name));
    if name == "Patient" {
        put(
            "operation",
            json!([{"name": "everything", "definition": EVERYTHING}]),
        );
    }
    Value::Object(members)
}

fn search_params(server: &Server<'_>, name: &str) -> Value {
    let all = Catalogue::r4().params(name);
    all.filter(|param| {
        let full_text = matches!(param.code, "_text" | "_content") && server.full_text;
        param.is_evaluable() || full_text
    })
    .map(|param| {
        json!({"name": param.code, "definition": param.url(), "type": code(param.param_type)})
    })
    .collect()
}

/// `*` and every reference parameter of the type.
fn includes(name: &str) -> Vec<String> {
    let references = references(name).map(|param| format!("{name}:{}", param.code));
    let mut all: Vec<String> = references.collect();
    if !all.is_empty() {
        all.insert(0, "*".to_owned());
    }
    all
}

/// Every reference parameter that names this type among a few.
fn revincludes(name: &str) -> Vec<String> {
    let catalogue = Catalogue::r4();
    let mut all = Vec::new();
    for source in catalogue
        .resource_types()
        .filter(|source| !NEVER_STORED.contains(source))
    {
        let here = references(source).filter(|param| {
            let any = param.targets.len() > NAMED_TARGETS_MAX;
            param.targets.contains(&name) && (!any || source == "Provenance")
        });
        all.extend(here.map(|param| format!("{source}:{}", param.code)));
    }
    all
}

fn references(name: &str) -> impl Iterator<Item = &'static SearchParam> {
    let all = Catalogue::r4().params(name);
    all.filter(|param| param.param_type == ParamType::Reference && param.is_evaluable())
}

/// FHIR R4 value set `search-param-type`.
fn code(param_type: ParamType) -> &'static str {
    match param_type {
        ParamType::Token => "token",
        ParamType::Reference => "reference",
        ParamType::Date => "date",
        ParamType::String => "string",
        ParamType::Quantity => "quantity",
        ParamType::Uri => "uri",
        ParamType::Number => "number",
        ParamType::Composite => "composite",
        ParamType::Special => "special",
    }
}

/// Types that travel in messages and are not stored by themselves.
const NEVER_STORED: [&str; 3] = ["OperationOutcome", "Parameters", "SubscriptionStatus"];

/// Most targets that a published parameter names one by one; beyond it means every type.
const NAMED_TARGETS_MAX: usize = 20;

const ALL: [&str; 9] = [
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
];

const READING: [&str; 2] = ["read", "search-type"];

const EVERYTHING: &str = "http://hl7.org/fhir/OperationDefinition/Patient-everything";

const OAUTH_URIS: &str = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris";

const SECURITY_SERVICES: &str = "http://terminology.hl7.org/CodeSystem/restful-security-service";

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Value {
        statement(&Server {
            base_url: "https://hospital.example/fhir/r4",
            version: "0.1.0",
            date: "2026-01-01T00:00:00Z",
            smart: Some(Smart {
                token_url: "https://hospital.example/token",
                authorize_url: None,
                introspect_url: None,
            }),
            read_only: &["AuditEvent"],
            full_text: false,
        })
    }

    fn of<'a>(statement: &'a Value, name: &str) -> &'a Value {
        let all = statement["rest"][0]["resource"].as_array().unwrap();
        all.iter()
            .find(|resource| resource["type"] == name)
            .unwrap()
    }

    fn strings<'a>(list: &'a Value, member: &str) -> Vec<&'a str> {
        let all = list.as_array().unwrap().iter();
        all.map(|item| item[member].as_str().or(item.as_str()).unwrap())
            .collect()
    }

    /// The statement is itself a valid R4 resource.
    #[test]
    fn the_statement_is_valid() {
        assert_eq!(crate::validate::resource(&example()), []);
    }

    #[test]
    fn every_type_lists_what_it_is_searched_by() {
        let statement = example();
        assert_eq!(
            statement["rest"][0]["resource"].as_array().unwrap().len(),
            144
        );
        let observation = of(&statement, "Observation");
        let params = strings(&observation["searchParam"], "name");
        for code in [
            "code",
            "date",
            "patient",
            "value-quantity",
            "combo-code-value-quantity",
            "_id",
        ] {
            assert!(params.contains(&code), "{code}");
        }
        assert!(!params.contains(&"_text") && !params.contains(&"_query"));
        assert!(strings(&observation["searchInclude"], "").contains(&"Observation:subject"));
        let patient = of(&statement, "Patient");
        let revincludes = strings(&patient["searchRevInclude"], "");
        assert!(revincludes.contains(&"Observation:patient"));
        assert!(revincludes.contains(&"Provenance:target"));
        assert_eq!(patient["operation"][0]["name"], "everything");
        assert_eq!(
            strings(&of(&statement, "AuditEvent")["interaction"], "code"),
            READING
        );
        let location = strings(&of(&statement, "Location")["searchParam"], "name");
        assert!(!location.contains(&"near"));
    }

    #[test]
    fn the_token_endpoint_is_told() {
        let security = &example()["rest"][0]["security"];
        let endpoint = &security["extension"][0]["extension"][0];
        assert_eq!(endpoint["valueUri"], "https://hospital.example/token");
    }
}
