//! Every type of search parameter, with modifiers, joins and views.

use serde_json::{Value, json};

use super::{Bed, names, observation};
use crate::node::patient;

/// One world for all searches: two patients, five observations, a doctor, a condition, a score, a definition.
async fn world() -> Bed {
    let bed = Bed::new();
    let mut first = patient("p1");
    first["name"] = json!([{ "family": "Müller-Lüdenscheidt", "given": ["Anna", "Lea"] }]);
    first["identifier"] = json!([{ "system": "urn:example:mrn", "value": "100" }]);
    first["gender"] = "female".into();
    first["birthDate"] = "1970-01-02".into();
    first["generalPractitioner"] = json!([{ "reference": "Practitioner/d1" }]);
    let mut second = patient("p2");
    second["gender"] = "male".into();
    second["birthDate"] = "1985-06".into();
    second["deceasedBoolean"] = false.into();
    let mut pressure = observation("bp", "p1", "85354-9", 0.0);
    pressure.as_object_mut().unwrap().remove("valueQuantity");
    let part = |code: &str, value: u8| {
        json!({
            "code": { "coding": [{ "system": "http://loinc.org", "code": code }] },
            "valueQuantity": { "value": value, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]" }
        })
    };
    pressure["component"] = json!([part("8480-6", 120), part("8462-4", 80)]);
    let mut old = observation("old", "p1", "4548-4", 5.4);
    old["effectiveDateTime"] = "2019-05".into();
    old["status"] = "amended".into();
    let all = [
        json!({ "resourceType": "Practitioner", "id": "d1", "name": [{ "family": "Lind", "given": ["Eva"] }] }),
        first,
        second,
        observation("a1", "p1", "4548-4", 6.3),
        observation("a2", "p2", "4548-4", 7.05),
        observation("hb", "p1", "718-7", 13.5),
        pressure,
        old,
        json!({
            "resourceType": "Condition", "id": "c1", "subject": { "reference": "Patient/p1" },
            "clinicalStatus": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"
            }] },
            "code": { "coding": [{ "system": "http://snomed.info/sct", "code": "44054006", "display": "Diabetes mellitus type 2" }] },
            "onsetDateTime": "2015-03-01"
        }),
        json!({
            "resourceType": "RiskAssessment", "id": "r1", "status": "final", "subject": { "reference": "Patient/p1" },
            "prediction": [{ "probabilityDecimal": 0.25 }]
        }),
        json!({
            "resourceType": "ValueSet", "id": "v1", "status": "active", "url": "http://example.org/fhir/ValueSet/colours",
            "version": "2"
        }),
    ];
    for resource in &all {
        bed.put(resource).await.is(201);
    }
    bed
}

impl Bed {
    async fn check(&self, search: &str, expected: &[&str]) {
        let mut found = self.found(search).await;
        found.sort();
        let kind = search.split('?').next().unwrap();
        let mut expected: Vec<String> = expected.iter().map(|id| format!("{kind}/{id}")).collect();
        expected.sort();
        assert_eq!(found, expected, "{search}");
    }
}

/// Token, string, date, reference, quantity, number, URI and composite, with prefixes and modifiers.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_parameter_is_searched() {
    let bed = world().await;
    for (search, expected) in [
        // Tokens.
        (
            "Observation?code=http://loinc.org|4548-4",
            &["a1", "a2", "old"][..],
        ),
        ("Observation?code=4548-4,718-7", &["a1", "a2", "old", "hb"]),
        ("Observation?code=http://snomed.info/sct|4548-4", &[]),
        ("Observation?code:not=4548-4", &["hb", "bp"]),
        ("Observation?status=amended", &["old"]),
        ("Condition?code:text=diabetes", &["c1"]),
        ("Patient?identifier=urn:example:mrn|100", &["p1"]),
        ("Patient?gender:missing=false", &["p1", "p2"]),
        ("Patient?identifier:missing=true", &["p2"]),
        ("Patient?_id=p1,p2", &["p1", "p2"]),
        // Strings.
        ("Patient?family=muller", &["p1"]),
        (
            "Patient?family:exact=M%C3%BCller-L%C3%BCdenscheidt",
            &["p1"],
        ),
        ("Patient?family:exact=muller-ludenscheidt", &[]),
        ("Patient?family:contains=DENSCHEID", &["p1"]),
        ("Patient?given=lea", &["p1"]),
        ("Patient?name=anna", &["p1"]),
        // Dates.
        ("Patient?birthdate=1970-01-02", &["p1"]),
        ("Patient?birthdate=ge1980", &["p2"]),
        ("Patient?birthdate=lt1980-01", &["p1"]),
        ("Patient?birthdate=ne1985", &["p1"]),
        (
            "Observation?date=gt2020-01-01&date=lt2027",
            &["a1", "a2", "hb", "bp"],
        ),
        ("Observation?date=2019", &["old"]),
        ("Observation?date=sa2019-06", &["a1", "a2", "hb", "bp"]),
        ("Observation?date=eb2020", &["old"]),
        // References.
        ("Observation?patient=p2", &["a2"]),
        ("Observation?subject=Patient/p2", &["a2"]),
        ("Observation?subject:Patient=p2", &["a2"]),
        ("Patient?general-practitioner=Practitioner/d1", &["p1"]),
        // Quantities, numbers, URIs.
        ("Observation?value-quantity=6.3", &["a1"]),
        ("Observation?value-quantity=gt6.3", &["a2", "hb"]),
        (
            "Observation?value-quantity=le6.3|http://unitsofmeasure.org|%25",
            &["a1", "old"],
        ),
        ("Observation?value-quantity=ap7.1||%25", &["a2"]),
        ("RiskAssessment?probability=gt0.2", &["r1"]),
        ("RiskAssessment?probability=0.3", &["r1"]),
        ("RiskAssessment?probability=0.30", &[]),
        (
            "ValueSet?url=http://example.org/fhir/ValueSet/colours",
            &["v1"],
        ),
        ("ValueSet?url:below=http://example.org/fhir", &["v1"]),
        // Composites.
        (
            "Observation?component-code-value-quantity=8480-6$gt110",
            &["bp"],
        ),
        (
            "Observation?component-code-value-quantity=8462-4$gt110",
            &[],
        ),
        ("Observation?code-value-quantity=4548-4$lt6", &["old"]),
        // Joins.
        (
            "Observation?subject:Patient.family=muller&code=718-7",
            &["hb"],
        ),
        ("Observation?patient.gender=male", &["a2"]),
        ("Patient?_has:Observation:patient:code=718-7", &["p1"]),
        (
            "Patient?_has:Condition:patient:code=http://snomed.info/sct|44054006&gender=male",
            &[],
        ),
        ("Patient?general-practitioner.name=lind", &["p1"]),
    ] {
        bed.check(search, expected).await;
    }
    for (search, named) in [
        ("Observation?date=yesterday", "date"),
        ("Observation?value-quantity=much", "value-quantity"),
        ("Observation?code:above=1", "code"),
        ("Observation?patient.shoe-size=4", "shoe-size"),
        ("Patient?_has:Observation:nothing:code=1", "_has"),
        ("Patient?_sort=shoe-size", "shoe-size"),
        ("Patient?_summary=most", "_summary"),
    ] {
        let strict = [("prefer", "handling=strict")];
        let outcome = bed
            .ask("GET", search, &strict, "")
            .await
            .problem(400)
            .to_string();
        assert!(outcome.contains(named), "{search}: {outcome}");
    }
    bed.node.stop();
}

/// Sorting, includes, totals and views, by URL and by form alike.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_is_shown_as_asked() {
    let bed = world().await;
    let by_value = bed
        .found("Observation?code=4548-4&_sort=-value-quantity")
        .await;
    assert_eq!(
        by_value,
        ["Observation/a2", "Observation/a1", "Observation/old"]
    );
    let by_date = bed.found("Observation?code=4548-4&_sort=date,_id").await;
    assert_eq!(
        by_date,
        ["Observation/old", "Observation/a1", "Observation/a2"]
    );

    let page = bed
        .get("Observation?_id=a2&_include=Observation:subject")
        .await
        .is(200)
        .json();
    assert_eq!(names(&page), ["Observation/a2", "Patient/p2"]);
    assert_eq!(page["entry"][1]["search"]["mode"], "include");
    assert_eq!(stele_fhir::validate::resource(&page), []);
    let page = bed
        .get("Patient?_id=p2&_revinclude=Observation:subject")
        .await
        .is(200)
        .json();
    assert_eq!(names(&page), ["Patient/p2", "Observation/a2"]);
    let page = bed
        .get("Patient?_id=p1&_include=Patient:general-practitioner")
        .await
        .json();
    assert_eq!(names(&page), ["Patient/p1", "Practitioner/d1"]);

    for (parameter, total) in [
        ("_total=accurate", json!(5)),
        ("_total=none", Value::Null),
        ("_summary=count", json!(5)),
    ] {
        let page = bed
            .get(&format!("Observation?{parameter}&_count=2"))
            .await
            .is(200)
            .json();
        assert_eq!(page["total"], total, "{parameter}");
    }
    let count = bed.get("Observation?_summary=count").await.json();
    assert!(count.get("entry").is_none());
    assert!(
        bed.get("Observation?_count=0")
            .await
            .json()
            .get("entry")
            .is_none()
    );

    let page = bed
        .get("Observation?_id=a1&_elements=status")
        .await
        .is(200)
        .json();
    let shown = &page["entry"][0]["resource"];
    assert_eq!(shown["status"], "final");
    assert!(shown.get("valueQuantity").is_none(), "{shown}");
    assert_eq!(shown["meta"]["tag"][0]["code"], "SUBSETTED");
    let text = bed.get("Patient/p1?_summary=true").await.is(200).json();
    assert!(text.get("generalPractitioner").is_none(), "{text}");

    let form = [("content-type", "application/x-www-form-urlencoded")];
    let posted = bed
        .ask(
            "POST",
            "Observation/_search?patient=p1",
            &form,
            "code=4548-4&_sort=date",
        )
        .await;
    assert_eq!(
        names(&posted.is(200).json()),
        ["Observation/old", "Observation/a1"]
    );
    bed.node.stop();
}
