# A stub of the behaviour, if the real module is not on the code path.
unless Code.ensure_loaded?(Phoenix.Endpoint) do
  defmodule Phoenix.Endpoint do
    @moduledoc false
    @callback config(atom(), term()) :: term()
  end
end
