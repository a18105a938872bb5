"""The gateway: routes each prompt to the silicon that answers it at the lowest cost inside its promise.

main.py  wiring.py   create_app, and the one module that knows concrete classes
edition.py reload.py what follows from one configuration, and how another takes over
service.py           a request's story in one page
api/                 wire formats in and out
routing/             the decision, pure: filters -> scorers -> picker
fleet/               live backends, who looks after them, and the state the router has learned of them
dispatch/            attempts and failover, as a state machine
cache/  metering/    what was answered before; what it cost
config/  cli/        the operator's side
"""

__version__ = "0.1.0"
