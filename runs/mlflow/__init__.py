"""The studio as an MLflow tracking server: what an unmodified client of MLflow says becomes ordinary runs, metrics and files.

``urls`` → ``views`` → one handler per call. A call is authorised by a token, which names the workspace; ids and addresses in
it are looked up among rows of that workspace and are never opened.
"""
