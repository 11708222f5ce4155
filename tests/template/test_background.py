"""Queue, schedule and alarms: what runs, and what tells when it does not."""

import re
from typing import Any

import pytest

from holdfast.usecases.lease_settlement import LEASE_SECONDS
from holdfast.usecases.settle_generation import FILE_SECONDS
from tests.template.support import EVERYTHING_ON, FOLDERS, REQUIRED, of_type, resolved

SCHEDULE = re.compile(
    r"rate\((1 (minute|hour|day)|([2-9]|[1-9]\d+) (minutes|hours|days))\)|cron\(\S+( \S+){5}\)"
)


def test_visibility_outlasts_the_function(
    cloudformation: dict[str, Any], functions: dict[str, dict[str, Any]]
) -> None:
    """A message stays hidden for six times the function's timeout plus the batching window."""
    queue = of_type(cloudformation, "AWS::SQS::Queue")["SettleQueue"]
    (mapping,) = of_type(cloudformation, "AWS::Lambda::EventSourceMapping").values()
    timeout = functions["SettleGenerationFunction"]["Timeout"]
    window = mapping.get("MaximumBatchingWindowInSeconds", 0)
    assert queue["VisibilityTimeout"] >= 6 * timeout + window


def test_dead_letters(cloudformation: dict[str, Any]) -> None:
    """After five tries a message is kept aside for 14 days, longer than it may wait in the queue."""
    queues = of_type(cloudformation, "AWS::SQS::Queue")
    redrive = queues["SettleQueue"]["RedrivePolicy"]
    assert redrive["maxReceiveCount"] == 5
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["SettleDeadLetterQueue", "Arn"]}
    kept = queues["SettleDeadLetterQueue"]["MessageRetentionPeriod"]
    assert kept == 14 * 24 * 3600 > queues["SettleQueue"]["MessageRetentionPeriod"]


def test_queues_are_encrypted(cloudformation: dict[str, Any]) -> None:
    """Both queues are encrypted at rest."""
    for name, queue in of_type(cloudformation, "AWS::SQS::Queue").items():
        assert queue["SqsManagedSseEnabled"] is True, name


def test_partial_batches(cloudformation: dict[str, Any]) -> None:
    """The settle function reports failures, takes one generation at a time, without flooding the database."""
    (mapping,) = of_type(cloudformation, "AWS::Lambda::EventSourceMapping").values()
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BatchSize"] == 1
    assert mapping["FunctionName"] == {"Ref": "SettleGenerationFunction"}
    assert 2 <= mapping["ScalingConfig"]["MaximumConcurrency"] <= 10


def test_schedule(cloudformation: dict[str, Any]) -> None:
    """The sweep is started every minute, the cleaning every hour."""
    started = {
        schedule["Target"]["Arn"]["Fn::GetAtt"][0]: schedule["ScheduleExpression"]
        for schedule in of_type(cloudformation, "AWS::Scheduler::Schedule").values()
    }
    assert started == {"RecoverySweepFunction": "rate(1 minute)", "CleanUpFunction": "rate(1 hour)"}


def test_schedule_expressions_parse(cloudformation: dict[str, Any]) -> None:
    """Every schedule expression is one that EventBridge Scheduler takes."""
    for name, schedule in of_type(cloudformation, "AWS::Scheduler::Schedule").items():
        assert SCHEDULE.fullmatch(schedule["ScheduleExpression"]), name


@pytest.mark.parametrize(
    "expression", ["rate(1 minutess)", "rate(1 minutes)", "rate(0 minutes)", "cron(0 12 * * ?)"]
)
def test_bad_schedule_expressions_are_found(expression: str) -> None:
    """An expression that AWS would refuse does not pass the check above."""
    assert not SCHEDULE.fullmatch(expression)


def test_missed_sweep_is_not_piled_up(cloudformation: dict[str, Any]) -> None:
    """A scheduled run that failed is not repeated by AWS: neither the scheduler nor Lambda retries."""
    schedules = of_type(cloudformation, "AWS::Scheduler::Schedule").values()
    assert all(s["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 0 for s in schedules)
    invoked = {
        invoke["FunctionName"]["Ref"]: invoke["MaximumRetryAttempts"]
        for invoke in of_type(cloudformation, "AWS::Lambda::EventInvokeConfig").values()
    }
    assert invoked == {"RecoverySweepFunction": 0, "CleanUpFunction": 0}


def test_schedule_name_is_not_fixed(cloudformation: dict[str, Any]) -> None:
    """Two stacks fit in one account: schedules, queues and functions have no fixed names."""
    for kind, key in [
        ("AWS::Scheduler::Schedule", "Name"),
        ("AWS::SQS::Queue", "QueueName"),
        ("AWS::Lambda::Function", "FunctionName"),
        ("AWS::CloudWatch::Alarm", "AlarmName"),
        ("AWS::IAM::Role", "RoleName"),
    ]:
        for name, properties in of_type(cloudformation, kind).items():
            assert key not in properties, name


def _alarms_by_metric(cloudformation: dict[str, Any], metric: str) -> dict[str, dict[str, Any]]:
    found = {}
    for alarm in of_type(cloudformation, "AWS::CloudWatch::Alarm").values():
        if alarm["MetricName"] == metric:
            (dimension,) = alarm["Dimensions"]
            value = dimension["Value"]
            found[value.get("Ref") or value["Fn::GetAtt"][0]] = alarm
    return found


def test_error_alarms(cloudformation: dict[str, Any]) -> None:
    """One error of any function within five minutes raises an alarm that names it."""
    alarms = _alarms_by_metric(cloudformation, "Errors")
    assert alarms.keys() == FOLDERS.keys()
    for function, alarm in alarms.items():
        assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (0, "GreaterThanThreshold")
        assert alarm["Namespace"] == "AWS/Lambda"
        assert FOLDERS[function] in alarm["AlarmDescription"]


def test_dead_letter_alarm(cloudformation: dict[str, Any]) -> None:
    """The first dead letter raises an alarm."""
    alarms = _alarms_by_metric(cloudformation, "ApproximateNumberOfMessagesVisible")
    alarm = alarms["SettleDeadLetterQueue"]
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (0, "GreaterThanThreshold")


def test_age_alarm(cloudformation: dict[str, Any]) -> None:
    """A settlement that waits longer than two tries take raises an alarm."""
    alarm = _alarms_by_metric(cloudformation, "ApproximateAgeOfOldestMessage")["SettleQueue"]
    visibility = of_type(cloudformation, "AWS::SQS::Queue")["SettleQueue"]["VisibilityTimeout"]
    assert 2 * visibility < alarm["Threshold"] < 3600


def test_sweep_alarm(cloudformation: dict[str, Any]) -> None:
    """A sweep that does not run raises an alarm, although then there is no data."""
    alarm = _alarms_by_metric(cloudformation, "Invocations")["RecoverySweepFunction"]
    assert alarm["TreatMissingData"] == "breaching"
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "LessThanThreshold")


def test_alarm_topic(cloudformation: dict[str, Any]) -> None:
    """With a topic every alarm is sent to it; without one they only show."""
    for name, alarm in of_type(cloudformation, "AWS::CloudWatch::Alarm").items():
        actions = alarm["AlarmActions"]
        assert resolved(cloudformation, actions, REQUIRED) is None, name
        assert resolved(cloudformation, actions, EVERYTHING_ON) == [
            EVERYTHING_ON["AlarmTopicArn"]
        ], name


def test_a_settle_worker_stops_in_time(cloudformation: dict[str, Any]) -> None:
    """There is time for a slow file and more; the lease outlives the worker, the message comes back after both."""
    function = of_type(cloudformation, "AWS::Lambda::Function")["SettleGenerationFunction"]
    queue = of_type(cloudformation, "AWS::SQS::Queue")["SettleQueue"]
    assert FILE_SECONDS * 1.5 < function["Timeout"] < LEASE_SECONDS < queue["VisibilityTimeout"]
