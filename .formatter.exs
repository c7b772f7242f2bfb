[
  inputs: ["{mix,.formatter}.exs", "{lib,mix,test,examples,bench}/**/*.{ex,exs}"]
]
