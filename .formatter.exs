[
  # examples/phoenix has a formatter of its own, which needs its dependencies.
  inputs: [
    "{mix,.formatter}.exs",
    "{lib,mix,test,bench}/**/*.{ex,exs}",
    "examples/plain/*.exs",
    "examples/plain/lib/**/*.ex"
  ]
]
