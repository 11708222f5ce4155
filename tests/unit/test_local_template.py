import json
from pathlib import Path
from textwrap import dedent, indent

import pytest

from local.intrinsics import Resolver
from local.template import HttpRoute, TemplateError, read_template

TEMPLATE = """\
Parameters:
  Stage: {Type: String, Default: dev, AllowedValues: [dev, prod]}
  FrontendUrl: {Type: String}
  Limit: {Type: Number, Default: 5}
  Origins: {Type: CommaDelimitedList, Default: "https://a.test, https://b.test"}
  SentryEnabled: {Type: String, Default: "false", AllowedValues: ["true", "false"]}
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
  HasSentry: !Equals [!Ref SentryEnabled, "true"]
  Quiet: !And [!Not [!Condition IsProd], !Not [!Condition HasSentry]]
Globals:
  Function:
    Runtime: python3.13
    Timeout: 10
    MemorySize: 512
    Handler: app.handler
    Layers: [!Ref SharedLayer]
    Environment:
      Variables:
        STAGE: !Ref Stage
        SENTRY_DSN_FROM: !If [HasSentry, !Sub "holdfast/${Stage}/sentry-dsn", ""]
Resources:
  SharedLayer:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layers/shared}
  HttpApi:
    Type: AWS::Serverless::HttpApi
    Properties:
      CorsConfiguration:
        AllowOrigins: [!Ref FrontendUrl]
        AllowMethods: [GET, POST]
        AllowHeaders: [authorization]
        MaxAge: 600
  SettleQueue:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 180
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt SettleDeadLetterQueue.Arn
        maxReceiveCount: 5
  SettleDeadLetterQueue:
    Type: AWS::SQS::Queue
    Properties: {QueueName: !Sub "holdfast-${Stage}-dead"}
  ApiFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/api/
      Timeout: 29
      Environment:
        Variables:
          SETTLE_QUEUE_URL: !Ref SettleQueue
          LIMIT: !Ref Limit
          LIVE: false
      Events:
        Get: {Type: HttpApi, Properties: {ApiId: !Ref HttpApi, Path: "/items/{id}", Method: get}}
        All: {Type: HttpApi, Properties: {ApiId: !Ref HttpApi, Path: /items, Method: "*"}}
  WorkerFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/worker/
      LoggingConfig: {LogFormat: JSON}
      Events:
        Queue:
          Type: SQS
          Properties:
            Queue: !GetAtt SettleQueue.Arn
            BatchSize: 5
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: {MaximumConcurrency: 2}
        Sweep: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 minute)}}
  OnlyInProdFunction:
    Type: AWS::Serverless::Function
    Condition: IsProd
    Properties: {CodeUri: functions/worker/}
"""


@pytest.fixture
def template_path(tmp_path: Path) -> Path:
    """Write the template and the folders it names."""
    for folder in ("layers/shared", "functions/api", "functions/worker"):
        (tmp_path / folder).mkdir(parents=True)
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    return path


SETTINGS = {"FrontendUrl": "http://127.0.0.1:8000"}


def resolve(text: str, **parameters: str) -> object:
    """Return the value of the expression `text` in a template of its own."""
    raw = {
        "Parameters": {"Name": {"Default": "dev"}, "Unset": {}},
        "Mappings": {"Sizes": {"dev": {"Memory": 512}}},
        "Conditions": {
            "IsDev": {"Fn::Equals": [{"Ref": "Name"}, "dev"]},
            "Never": {"Fn::And": [{"Condition": "IsDev"}, {"Fn::Not": [{"Condition": "IsDev"}]}]},
            "Always": {"Fn::Or": [{"Condition": "Never"}, {"Condition": "IsDev"}]},
        },
        "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}},
    }
    return Resolver(raw, parameters, {"Queue": "http://q", "Queue.Arn": "arn:q"})(json.loads(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"Ref": "Name"}', "dev"),
        ('{"Ref": "Queue"}', "http://q"),
        ('{"Ref": "AWS::Region"}', "eu-central-1"),
        ('{"Fn::GetAtt": ["Queue", "Arn"]}', "arn:q"),
        ('{"Fn::GetAtt": "Queue.Arn"}', "arn:q"),
        ('{"Fn::GetAtt": ["Bucket", "Arn"]}', "arn:aws:s3:eu-central-1:123456789012:Bucket"),
        ('{"Fn::Sub": "${Name}/${Queue.Arn}"}', "dev/arn:q"),
        ('{"Fn::Sub": "${!Literal}/${AWS::AccountId}"}', "${Literal}/123456789012"),
        ('{"Fn::Sub": ["${A}-${Name}", {"A": {"Ref": "Queue"}}]}', "http://q-dev"),
        ('{"Fn::Join": ["-", ["a", {"Ref": "Name"}, 1, true]]}', "a-dev-1-true"),
        ('{"Fn::Select": [1, {"Fn::Split": [",", "a,b"]}]}', "b"),
        ('{"Fn::FindInMap": ["Sizes", {"Ref": "Name"}, "Memory"]}', 512),
        ('{"Fn::If": ["IsDev", "yes", "no"]}', "yes"),
        ('{"Fn::If": ["Never", "yes", "no"]}', "no"),
        ('{"Fn::If": ["Always", "yes", "no"]}', "yes"),
        ('{"a": {"Fn::If": ["IsDev", {"Ref": "AWS::NoValue"}, 1]}, "b": 2}', {"b": 2}),
        ('["x", {"Ref": "AWS::NoValue"}]', ["x"]),
        ('{"Fn::If": ["IsDev", {"Ref": "AWS::NoValue"}, 1]}', None),
    ],
)
def test_intrinsic_functions(text: str, expected: object) -> None:
    """Each intrinsic function gives what CloudFormation gives."""
    assert resolve(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"Ref": "Nothing"}',
        '{"Ref": "Unset"}',
        '{"Fn::GetAtt": ["Nothing", "Arn"]}',
        '{"Fn::GetAtt": ["Bucket", "DomainName"]}',
        '{"Fn::If": ["Nothing", 1, 2]}',
        '{"Fn::ImportValue": "x"}',
    ],
)
def test_unknown_expressions_are_refused(text: str) -> None:
    """What cannot be known is an error, never a guess."""
    with pytest.raises(TemplateError):
        resolve(text)


def test_globals_are_merged_as_sam_does(template_path: Path) -> None:
    """Maps are combined, lists are added and scalars are replaced by the function's own."""
    api = read_template(template_path, SETTINGS).functions["ApiFunction"]

    assert (api.timeout, api.memory_mb, api.runtime) == (29.0, 512, "python3.13")
    assert (template_path.parent / "layers/shared",) == api.layers
    assert api.environment == {
        "STAGE": "dev",
        "SENTRY_DSN_FROM": "",
        "SETTLE_QUEUE_URL": "http://127.0.0.1/123456789012/SettleQueue",
        "LIMIT": "5",
        "LIVE": "false",
    }


def test_routes_and_cors(template_path: Path) -> None:
    """Routes and the CORS configuration come from the template."""
    template = read_template(template_path, SETTINGS)

    assert (
        HttpRoute("GET", "/items/{id}"),
        HttpRoute("ANY", "/items"),
    ) == template.functions["ApiFunction"].routes
    assert template.api.cors is not None
    assert template.api.cors.origins == ("http://127.0.0.1:8000",)
    assert template.api.cors.max_age == 600


def test_queues_and_their_consumers(template_path: Path) -> None:
    """A queue knows its dead-letter queue, and a function the queue that feeds it, by logical id."""
    template = read_template(template_path, SETTINGS, "http://127.0.0.1:9")
    queue = template.queues["SettleQueue"]
    worker = template.functions["WorkerFunction"]

    assert (
        queue.dead_letter_queue,
        queue.max_receive_count,
        queue.visibility_timeout,
    ) == ("SettleDeadLetterQueue", 5, 180)
    assert template.queues["SettleDeadLetterQueue"].name == "holdfast-dev-dead"
    assert [
        (source.queue, source.batch_size, source.reports_failures, source.max_concurrency)
        for source in worker.queues
    ] == [("SettleQueue", 5, True, 2)]
    assert [schedule.expression for schedule in worker.schedules] == ["rate(1 minute)"]
    assert worker.log_format == "JSON"


def test_resources_with_a_false_condition_do_not_exist(template_path: Path) -> None:
    """A function whose condition does not hold is not there, and is when it does."""
    assert "OnlyInProdFunction" not in read_template(template_path, SETTINGS).functions
    in_prod = read_template(template_path, {**SETTINGS, "Stage": "prod", "SentryEnabled": "true"})
    assert "OnlyInProdFunction" in in_prod.functions
    variables = in_prod.functions["ApiFunction"].environment
    assert variables["SENTRY_DSN_FROM"] == "holdfast/prod/sentry-dsn"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({**SETTINGS, "Stages": "x"}, "Stages"),
        ({**SETTINGS, "Stage": "qa"}, "one of"),
        ({}, "FrontendUrl"),
    ],
)
def test_wrong_parameters_are_refused(
    template_path: Path, parameters: dict[str, str], message: str
) -> None:
    """An unknown parameter, a value that is not allowed and a missing value are errors that name it."""
    with pytest.raises(TemplateError, match=message):
        read_template(template_path, parameters)


@pytest.mark.parametrize(
    ("resource", "message"),
    [
        ("Events: {A: {Type: S3}}", "no local event source"),
        ("Events: {A: {Type: HttpApi}}", "Path and Method"),
        ("Layers: ['arn:aws:lambda:eu-central-1:1:layer:x:1']", "no layer of this template"),
        ("CodeUri: functions/nowhere", "there is no folder"),
        ("Events: {A: {Type: SQS, Properties: {Queue: 'arn:aws:sqs:x:1:q'}}}", "is no queue"),
    ],
)
def test_what_has_no_local_counterpart_is_refused(
    tmp_path: Path, resource: str, message: str
) -> None:
    """The local cloud never runs a part of a template and leaves out the rest silently."""
    text = "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n"
    (tmp_path / "template.yaml").write_text(text + indent(dedent(resource), " " * 6))
    with pytest.raises(TemplateError, match=message):
        read_template(tmp_path / "template.yaml")
