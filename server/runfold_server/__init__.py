"""HTTP: MLflow's REST over the log and its read models (`mlflow`), and Runfold's own API (`native`, `timeline`, `live`,
`artifacts`, `public`).

`reading` finds the answers, `document` describes them; here lie what all share: the application, routes, requests,
answers and writes.
"""
