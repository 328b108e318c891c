"""The words that the document lists are those that the service knows."""

from typing import Any

from service.api.v2.infer import DEFAULTS, OUTPUTS
from service.api.v2.repository import NEWEST, VERSION
from service.api.v2.tensors import DTYPES, INPUT
from tests.contract.test_openapi import DOCUMENT

INFER = DOCUMENT["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]["application/json"]["schema"]
SCHEMAS = DOCUMENT["components"]["schemas"]


def test_datatypes_are_those_that_are_read() -> None:
    assert set(SCHEMAS["InputTensor"]["properties"]["datatype"]["enum"]) == set(DTYPES)
    assert SCHEMAS["InputTensor"]["properties"]["name"]["const"] == INPUT


def test_outputs_and_operations_are_those_that_there_are() -> None:
    assert set(SCHEMAS["RequestedOutput"]["properties"]["name"]["enum"]) == set(OUTPUTS)
    operations = INFER["properties"]["parameters"]["properties"]["operation"]["enum"]
    assert set(operations) == set(map(str, DEFAULTS))


def test_versions_to_load_are_written_so() -> None:
    load: dict[str, Any] = DOCUMENT["paths"]["/v2/repository/models/{name}/load"]["post"]["requestBody"]["content"]
    parameters = load["application/json"]["schema"]["properties"]["parameters"]
    text, number = parameters["properties"]["version"]["anyOf"]
    assert text["pattern"] == f"^({NEWEST}|{VERSION.pattern})$"
    assert VERSION.fullmatch(str(number["maximum"]))
    assert not VERSION.fullmatch(str(number["maximum"] + 1))
    assert not VERSION.fullmatch(str(number["minimum"] - 1))
