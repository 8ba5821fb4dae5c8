"""Metrics of logged models into their table. Rows are joined there, so nothing is loaded before."""

from collections.abc import Mapping

from runfold_projections.postgres.batch_statement import RowChange, columns

from .model_metrics import Measured, ModelMetric


def model_metric_changes(found: Mapping[Measured, ModelMetric]) -> list[RowChange]:
    """Return the statement that joins the metrics of a batch with the stored ones."""
    if not found:
        return []
    rows = [
        (*measured, measured.dataset, metric.time_ms, metric.step, metric.value, metric.least, metric.most)
        for measured, metric in found.items()
    ]
    return [RowChange(_JOIN, columns(rows))]


# LEAST and GREATEST ignore NULL; rows compare from left to right, and NaN sorts above all numbers.
_JOIN = """
INSERT INTO model_value AS m (model_id, run_id, key, dataset_name, dataset_digest, dataset, time_ms, step, value,
    least, most)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[],
    $8::bigint[],
                     $9::double precision[], $10::double precision[], $11::double precision[])
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (model_id, key, run_id, dataset) DO UPDATE SET
    time_ms = GREATEST(m.time_ms, excluded.time_ms),
    step = CASE WHEN (excluded.time_ms, excluded.step) > (m.time_ms, m.step) THEN excluded.step ELSE m.step END,
    value = CASE WHEN (excluded.time_ms, excluded.step, excluded.value) > (m.time_ms, m.step, m.value)
                 THEN excluded.value ELSE m.value END,
    least = LEAST(m.least, excluded.least), most = GREATEST(m.most, excluded.most)
"""
