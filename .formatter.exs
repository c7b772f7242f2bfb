[
  inputs: ["{mix,.formatter}.exs", "{lib,mix,test}/**/*.{ex,exs}"]
]
