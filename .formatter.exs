[
  inputs: ["{mix,.formatter}.exs", "{lib,mix,test,examples}/**/*.{ex,exs}"]
]
