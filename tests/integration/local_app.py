"""A tiny application for the tests of the local cloud: one handler that can do everything wrong."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

HANDLER = """
import base64, json, logging, os, subprocess, sys, time

print("loading")
if os.environ.get("INIT") == "raise":
    raise RuntimeError("no start")
if os.environ.get("INIT") == "exit":
    sys.exit(3)
if os.environ.get("INIT") == "hang":
    time.sleep(60)
calls = 0


def handler(event, context):
    global calls
    calls += 1
    do = event.get("do", "echo") if isinstance(event, dict) else "echo"
    if do == "echo":
        return event
    if do == "calls":
        return {"calls": calls, "pid": os.getpid()}
    if do == "raise":
        raise ValueError("bad, Käse")
    if do == "exit":
        sys.exit(event.get("code", 0))
    if do == "segfault":
        os.kill(os.getpid(), 11)
    if do == "sleep":
        time.sleep(event["seconds"])
        return {"slept": event["seconds"], "pid": os.getpid()}
    if do == "spawn":
        child = subprocess.Popen(["sleep", "60"])
        if event.get("note"):
            with open(event["note"], "w") as file:
                file.write(f"{os.getpid()} {child.pid}")
        time.sleep(event.get("seconds", 0))
        return {"child": child.pid}
    if do == "large":
        return "x" * event["size"]
    if do == "unserialisable":
        return object()
    if do == "environ":
        return dict(os.environ)
    if do == "path":
        return {"path": sys.path, "cwd": os.getcwd(), "prefix": sys.prefix}
    if do == "import":
        try:
            return __import__(event["module"]).__name__
        except ImportError as error:
            return {"missing": str(error)}
    if do == "log":
        print("printed →")
        logging.getLogger().warning("logged %s", "ä")
        sys.stderr.write("to stderr\\n")
        return None
    if do == "context":
        return {
            "id": context.aws_request_id, "name": context.function_name,
            "memory": context.memory_limit_in_mb, "arn": context.invoked_function_arn,
            "version": context.function_version, "left": context.get_remaining_time_in_millis(),
            "trace": "Root=" in os.environ["_X_AMZN_TRACE_ID"],
        }
    if do == "write":
        import tempfile
        with tempfile.NamedTemporaryFile(delete=False) as file:
            return file.name
    raise AssertionError(do)


def http(event, context):
    if event.get("rawPath", "").startswith("/do/"):
        return handler({"do": event["pathParameters"]["what"], "seconds": 0.05}, context)
    if event["routeKey"].endswith("/slow"):
        time.sleep(1.0)
    body = event.get("body", "")
    data = base64.b64decode(body) if event["isBase64Encoded"] else body.encode()
    if event["routeKey"].endswith("/bytes"):
        return {"statusCode": 200, "headers": {"content-type": "image/png"},
                "body": base64.b64encode(data).decode(), "isBase64Encoded": True}
    return {"statusCode": 201, "cookies": ["a=1; Path=/", "b=2"],
            "headers": {"content-type": "application/json", "Access-Control-Allow-Origin": "*"},
            "body": json.dumps(event, ensure_ascii=False)}


def queue(event, context):
    failures = []
    for record in event["Records"]:
        do = json.loads(record["body"])["do"]
        if do == "crash":
            os.kill(os.getpid(), 9)
        if do == "nonsense":
            return {"batchItemFailures": [{"itemIdentifier": "unknown"}]}
        if do == "fail":
            failures.append({"itemIdentifier": record["messageId"]})
        print("record", record["body"], record["attributes"]["ApproximateReceiveCount"])
    return {"batchItemFailures": failures}


def sweep(event, context):
    import boto3
    print("swept", event["source"])
    secret = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["API_KEY_FROM"])
    boto3.client("sqs").send_message(
        QueueUrl=os.environ["QUEUE_URL"], MessageBody=json.dumps({"do": "ok"}))
    return {"secret": secret["SecretString"], "shared": __import__("shared_code").VALUE}
"""

TEMPLATE = """
Parameters:
  FrontendUrl: {Type: String, Default: "https://shop.test"}
Globals:
  Function:
    Runtime: python3.13
    Timeout: 5
    MemorySize: 256
    Layers: [!Ref SharedLayer]
Resources:
  SharedLayer:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layers/shared}
  HttpApi:
    Type: AWS::Serverless::HttpApi
    Properties:
      CorsConfiguration: {AllowOrigins: [!Ref FrontendUrl], AllowMethods: [POST], MaxAge: 60}
  Jobs:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 30
      RedrivePolicy: {deadLetterTargetArn: !GetAtt DeadJobs.Arn, maxReceiveCount: 2}
  DeadJobs: {Type: AWS::SQS::Queue}
  PlainFunction:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: functions/plain, Handler: app.handler}
  HttpFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/http
      Handler: app.http
      Events:
        Echo: {Type: HttpApi, Properties: {Path: /echo, Method: POST}}
        Item: {Type: HttpApi, Properties: {Path: "/items/{id}", Method: GET}}
        Bytes: {Type: HttpApi, Properties: {Path: /bytes, Method: PUT}}
        Slow: {Type: HttpApi, Properties: {Path: /slow, Method: GET}}
        Do: {Type: HttpApi, Properties: {Path: "/do/{what}", Method: ANY}}
  QueueFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/queue
      Handler: app.queue
      Events:
        Jobs:
          Type: SQS
          Properties:
            Queue: !GetAtt Jobs.Arn
            BatchSize: 3
            FunctionResponseTypes: [ReportBatchItemFailures]
  SweepFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/sweep
      Handler: app.sweep
      Environment: {Variables: {API_KEY_FROM: holdfast/dev/api-key, QUEUE_URL: !Ref Jobs}}
      Events:
        Every: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 minute)}}
"""


def write_app(root: Path) -> Path:
    """Write the application into `root` and return the path of its template."""
    for folder in ("plain", "http", "queue", "sweep"):
        (root / "functions" / folder).mkdir(parents=True)
        (root / "functions" / folder / "app.py").write_text(HANDLER)
    (root / "layers/shared").mkdir(parents=True)
    (root / "layers/shared/shared_code.py").write_text("VALUE = 1\n")
    (root / "template.yaml").write_text(TEMPLATE)
    return root / "template.yaml"


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until `condition` holds; fail the test when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True
    )
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")
